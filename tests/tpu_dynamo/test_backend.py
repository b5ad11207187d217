"""Graphs end to end: every kind of input and output that a graph can have."""

from __future__ import annotations

import pytest
import torch

import tpu_dynamo

pytestmark = pytest.mark.sampled(6)

DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.complex64, torch.complex128,
]  # fmt: skip


def values(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return torch.testing.make_tensor(*shape, dtype=dtype, device="cpu", low=None, high=None)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(3, 4), (), (0, 3), (1,)], ids=str)
def test_every_dtype_and_rank_enters_and_leaves(matches_eager, dtype, shape):
    matches_eager(lambda x: (x == x, torch.cat([x.reshape(-1), x.reshape(-1)]), x), values(dtype, *shape))


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_rare_dtypes_are_cast_on_the_device(matches_eager, dtype):
    x = torch.arange(8).to(torch.float32).to(dtype)
    matches_eager(lambda x: x.to(torch.float32) + 1, x)


LAYOUTS = {
    "transposed": lambda: torch.randn(3, 4).t(),
    "permuted": lambda: torch.randn(2, 3, 4).permute(2, 0, 1),
    "channels-last": lambda: torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "sliced": lambda: torch.randn(4, 6)[1:3, ::2],
    "offset": lambda: torch.randn(13)[1:],
    "expanded": lambda: torch.randn(3, 1).expand(3, 4),
    "overlapping": lambda: torch.randn(8).unfold(0, 4, 2),
    "size-one-dimensions": lambda: torch.randn(1, 4, 1).transpose(0, 2),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_memory_layout_enters(matches_eager, layout):
    matches_eager(lambda x: x * 2 + 1, LAYOUTS[layout]())


@pytest.mark.parametrize("layout", ["transposed", "permuted", "channels-last", "offset"])
def test_dense_outputs_have_the_strides_of_eager(matches_eager, layout):
    x = LAYOUTS[layout]()
    out = matches_eager(lambda x: x + 1, x)
    assert out.stride() == (x + 1).stride()


def test_conjugated_input_is_read_as_its_values(matches_eager):
    matches_eager(lambda x: x * 2, torch.randn(3, dtype=torch.complex64).conj())


def test_views_as_outputs_share_their_base(matches_eager):
    x = torch.randn(3, 4)

    def views(x):
        y = x + 1
        return y, y.t(), y[1], x.view(4, 3)

    matches_eager(views, x)
    y, transposed, row, _ = torch.compile(views, backend="tpu")(x)
    assert y.data_ptr() == transposed.data_ptr()
    assert row.data_ptr() == y[1].data_ptr()


def test_outputs_that_are_inputs_are_the_same_objects():
    x, y = torch.randn(3), torch.randn(3)
    a, b, c = torch.compile(lambda x, y: (x, x + y, y), backend="tpu")(x, y)
    assert a is x
    assert c is y
    torch.testing.assert_close(b, x + y)


def test_duplicate_outputs_alias_as_in_eager():
    def twice(x):
        y = x * 2
        return y, y

    a, b = torch.compile(twice, backend="tpu")(torch.randn(3))
    assert a.data_ptr() == b.data_ptr()


def test_equal_outputs_of_a_program_have_memory_of_their_own():
    a, b = torch.compile(lambda x: (x * 2, x * 2), backend="tpu")(torch.ones(64))
    a.add_(1)
    torch.testing.assert_close(b, torch.full((64,), 2.0))


def test_constant_outputs_may_be_written_without_changing_the_next_call():
    compiled = torch.compile(lambda: torch.full((64,), 3.0), backend="tpu")
    compiled().zero_()
    torch.testing.assert_close(compiled(), torch.full((64,), 3.0))


def test_outputs_survive_the_inputs_and_the_function():
    compiled = torch.compile(lambda x: x.t() * 2, backend="tpu")
    x = torch.randn(64, 32)
    expected = x.t() * 2
    out = compiled(x)
    del compiled, x
    torch._dynamo.reset()
    tpu_dynamo.reset()
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("number", [3, 2.5, True, 2 + 1j], ids=str)
def test_python_numbers_enter_and_leave(matches_eager, number):
    matches_eager(lambda x, n: (x * n, n), torch.randn(3), number)


def test_none_and_containers_leave(matches_eager):
    matches_eager(lambda x: {"a": None, "b": [x + 1, (x, None)]}, torch.randn(3))


def test_a_graph_without_outputs_changes_its_input():
    def fill(x):
        x.add_(1)

    x = torch.zeros(3)
    torch.compile(fill, backend="tpu", fullgraph=True)(x)
    torch.testing.assert_close(x, torch.ones(3))


def test_inputs_that_a_graph_changes_are_changed(matches_eager):
    def change(x, y):
        x.mul_(2)
        y[1:] = x[:2]
        return x.sum() + y

    matches_eager(change, torch.randn(3), torch.randn(3))


def test_aliased_inputs_are_changed_together():
    base = torch.arange(6.0)
    expected = base.clone()

    def change(x, y):
        x.add_(1)
        return y * 2

    out_eager = change(expected[:4], expected[2:])
    out = torch.compile(change, backend="tpu")(base[:4], base[2:])
    torch.testing.assert_close(base, expected)
    torch.testing.assert_close(out, out_eager)


def test_an_input_may_be_overwritten_right_after_the_call():
    compiled = torch.compile(lambda x: x @ x, backend="tpu")
    x = torch.randn(300, 300)
    expected = x @ x
    out = compiled(x)
    x.zero_()
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


def test_parameters_changed_in_place_or_replaced_are_seen():
    model = torch.nn.Linear(4, 2)
    compiled = torch.compile(model, backend="tpu")
    x = torch.randn(3, 4)
    with torch.no_grad():
        compiled(x)
        model.weight.mul_(2)
        torch.testing.assert_close(compiled(x), model(x))
        model.weight.data = torch.randn(2, 4)
        torch.testing.assert_close(compiled(x), model(x))


def test_tensors_that_the_graph_holds_are_constants(matches_eager):
    small, large = torch.arange(5.0), torch.randn(1000)
    matches_eager(lambda x: (x + torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), small * 2, large + 1), torch.randn(5))


def test_copying_transfer_gives_the_same_and_counts_its_bytes(matches_eager):
    x = torch.randn(16, dtype=torch.bfloat16)
    matches_eager(lambda x: (x + 1, x.t()), x, transfer="copy")
    stats = tpu_dynamo.stats()
    assert stats.bytes_to_device == x.nbytes
    assert stats.bytes_to_host >= x.nbytes


def test_shared_transfer_copies_nothing(matches_eager):
    matches_eager(lambda x: x + 1, torch.randn(16))
    stats = tpu_dynamo.stats()
    assert (stats.bytes_to_device, stats.bytes_to_host) == (0, 0)


def test_both_backend_names_are_published():
    assert {"tpu", "tpu_dynamo"} <= set(torch._dynamo.list_backends())
    x = torch.randn(3)
    torch.testing.assert_close(torch.compile(lambda x: x + 1, backend="tpu_dynamo")(x), x + 1)


def test_gradients_match_eager():
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    x = torch.randn(5, 4)
    model(x).square().mean().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    torch.compile(model, backend="tpu")(x).square().mean().backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert tpu_dynamo.stats().graphs == {"forward": 1, "backward": 1}
