"""The way from Dynamo's guards to a program: nothing that the graph does not need, and all that it does."""

from __future__ import annotations

import sys

import pytest
import torch

import tpu_dynamo


@torch.library.custom_op("tpu_dynamo_tests::unlowered", mutates_args=())
def unlowered(x: torch.Tensor) -> torch.Tensor:
    """An operator that only eager PyTorch has."""
    return x + 1


@unlowered.register_fake
def _(x):
    return torch.empty_like(x)


def frames_of(call) -> set[str]:
    """The functions that a call runs, as `file.py:function`."""
    seen: set[str] = set()

    def profile(frame, event, argument):
        if event == "call":
            seen.add(f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_code.co_name}")

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return seen


@pytest.mark.parametrize("again", [pytest.param(False, id="traced"), pytest.param(True, id="from-the-cache")])
def test_a_graph_without_gradients_runs_nothing_of_aot_autograd_and_looks_up_no_stream(again):

    torch.zeros(1, device="tpu")

    def double(x):
        return x * 2

    x = torch.randn(4)
    compiled = torch.compile(double, backend="tpu")
    compiled(x)
    if again:
        torch._dynamo.reset()
        compiled(x)
    seen = frames_of(lambda: compiled(x))
    assert "shared.py:__call__" in seen
    assert not [name for name in seen if name.startswith(("runtime_wrappers.py", "<string>:codegen"))]
    assert not [name for name in seen if "current_stream" in name]


def test_a_graph_that_uses_the_current_stream_still_finds_it():
    torch.zeros(1, device="tpu")

    def synchronised(x):
        stream = torch.accelerator.current_stream()
        stream.synchronize()
        return x * 2, stream

    compiled = torch.compile(synchronised, backend="tpu")
    x = torch.randn(4)
    for _ in range(2):
        doubled, stream = compiled(x)
        torch.testing.assert_close(doubled, x * 2)
        assert stream == torch.accelerator.current_stream()


def test_autocast_around_the_call_does_not_reach_into_a_program():
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Softmax(-1))
    compiled = torch.compile(model, backend="tpu")
    x = torch.randn(2, 8)
    with torch.no_grad():
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16):
                expected, found = model(x), compiled(x)
            assert found.dtype == expected.dtype
            torch.testing.assert_close(found, expected)
            torch.testing.assert_close(compiled(x), model(x))


def test_inputs_that_require_gradients_give_results_that_do_not():
    compiled = torch.compile(lambda x: x.argmax(-1), backend="tpu")
    for x in (torch.randn(6, 4, requires_grad=True), torch.randn(4, 6).t().requires_grad_()):
        for _ in range(3):
            torch.testing.assert_close(compiled(x), x.argmax(-1))


def test_a_graph_in_eager_pytorch_is_kept_from_the_autocast_around_it():
    def product(x, y):
        with torch.autocast("cpu", enabled=False):
            return unlowered(x) @ y

    compiled = torch.compile(product, backend="tpu", options={"fallback": "eager"})
    x, y = torch.randn(4, 4), torch.randn(4, 4)
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            found = compiled(x, y)
        assert tpu_dynamo.stats().fallbacks
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, product(x, y))


@pytest.mark.parametrize("device", ["cpu", "tpu"])
def test_an_input_that_is_written_to_changes_version(device):
    def add(x):
        x.add_(1)
        return x * 2

    compiled = torch.compile(add, backend="tpu")
    x = torch.zeros(4, device=device)
    for count in (1, 2, 3):
        before = x._version
        torch.testing.assert_close(compiled(x).cpu(), torch.full((4,), 2.0 * count))
        assert x._version > before
