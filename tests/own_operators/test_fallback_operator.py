"""options={"fallback": "operator"}: what has no lowering runs by itself, and the rest stays compiled."""

from __future__ import annotations

import pytest
import torch

import tpu_dynamo

OPERATOR = {"fallback": "operator"}


@torch.library.custom_op("own_tests_alone::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(x.detach().cpu().numpy() * 2).to(x.device)


twice.register_fake(torch.empty_like)
twice.register_autograd(lambda ctx, gradient: twice(gradient))


@torch.library.custom_op("own_tests_alone::split", mutates_args=())
def split(x: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return x[:n].clone(), x[n:].clone()


split.register_fake(lambda x, n: (x.new_empty(n, *x.shape[1:]), x.new_empty(x.shape[0] - n, *x.shape[1:])))


@torch.library.custom_op("own_tests_alone::add_into", mutates_args=("out",))
def add_into(out: torch.Tensor, x: torch.Tensor) -> None:
    out.add_(x)


add_into.register_fake(lambda out, x: None)


@torch.library.custom_op("own_tests_alone::lies", mutates_args=())
def lies(x: torch.Tensor) -> torch.Tensor:
    return x[:1].clone()


lies.register_fake(torch.empty_like)


@torch.library.custom_op("own_tests_alone::turned", mutates_args=())
def turned(x: torch.Tensor) -> torch.Tensor:
    return x.t().contiguous().t()


turned.register_fake(torch.empty_like)


def sandwich(x):
    return (twice(x.sin()).cos() @ x).relu()


@pytest.mark.parametrize("device", ["cpu", "tpu"])
def test_one_operator_in_the_middle_is_a_call_between_two_compiled_graphs(device):
    x = torch.randn(3, 3, device=device)
    found = torch.compile(sandwich, backend="tpu", options=OPERATOR, fullgraph=True)(x)
    stats = tpu_dynamo.stats()
    torch.testing.assert_close(found, sandwich(x))
    if device == "cpu":  # on the device, the operator itself runs programs
        assert (stats.lowerings, stats.executions) == (2, 2)
    line = f"own_tests_alone.twice.default at {__file__.rpartition('/')[2]}:{sandwich.__code__.co_firstlineno + 1}"
    assert stats.operator_calls == {line: 1}
    assert stats.operator_bytes == {line: 2 * 9 * 4}
    assert stats.operator_seconds[line] > 0
    assert any("own_tests_alone.twice" in why for why in stats.fallbacks)


@pytest.mark.parametrize("device", ["cpu", "tpu"])
def test_gradients_are_cut_too(device):
    x = torch.randn(3, 3, device=device, requires_grad=True)
    compiled = torch.compile(lambda x: sandwich(x * 2), backend="tpu", options=OPERATOR, fullgraph=True)
    wanted = torch.autograd.grad(sandwich(x * 2).square().sum(), x)
    torch.testing.assert_close(torch.autograd.grad(compiled(x).square().sum(), x), wanted)
    assert sum(tpu_dynamo.stats().operator_calls.values()) == 2


def independent(x):
    first, second = split(x, 1)
    return first.sin(), twice(x + 1).exp() + second.sum(), x.cos()


def chained(x):
    return turned(twice(twice(x)))


def written(x):
    y = x.sin()
    add_into(y, x)
    x.mul_(2)
    return y + twice(x)


def only(x):
    return twice(x)


def view_written(x):
    y = torch.zeros(4, 3)
    add_into(y[1:], x)
    return y


@pytest.mark.parametrize("function", [independent, chained, written, only, view_written], ids=lambda f: f.__name__)
def test_every_place_of_an_operator_gives_eagers_results(matches_eager, function):
    matches_eager(function, torch.randn(3, 3), **OPERATOR)


@torch.library.custom_op("own_tests_alone::picky", mutates_args=())
def picky(x: torch.Tensor, by: int) -> torch.Tensor:
    return x * by


picky.register_fake(lambda x, by: torch.empty_like(x))


@tpu_dynamo.lowers(torch.ops.own_tests_alone.picky.default, language="jax")
def lower_picky(x, by):
    if by > 2:
        raise NotImplementedError("by more than two")
    return x * by


def test_a_call_that_is_refused_for_its_arguments_runs_alone():
    def chain(x):
        return picky(twice(picky(picky(x.sin(), 2).cos(), 3) + 1).exp(), 2) - 1

    x = torch.randn(3, 3)
    found = torch.compile(chain, backend="tpu", options=OPERATOR, fullgraph=True)(x)
    stats = tpu_dynamo.stats()
    torch.testing.assert_close(found, chain(x))
    assert {name.split()[0].split(".")[1]: n for name, n in stats.operator_calls.items()} == {"picky": 1, "twice": 1}
    assert (stats.lowerings, stats.executions) == (3, 3)
    assert any("by more than two" in why for why in stats.fallbacks)


def test_a_graph_serves_several_sizes():
    compiled = torch.compile(sandwich, backend="tpu", options=OPERATOR, fullgraph=True, dynamic=True)
    for n in (3, 4):
        x = torch.randn(n, n)
        torch.testing.assert_close(compiled(x), sandwich(x))
    assert tpu_dynamo.stats().graphs == {"inference": 1}


def test_tensors_are_copied_where_the_device_has_its_own_memory():
    x = torch.randn(3, 3, requires_grad=True)
    compiled = torch.compile(sandwich, backend="tpu", options={**OPERATOR, "transfer": "copy"}, fullgraph=True)
    wanted = torch.autograd.grad(sandwich(x).sum(), x)
    torch.testing.assert_close(torch.autograd.grad(compiled(x).sum(), x), wanted)


def test_frozen_parameters_are_constants_of_the_parts():
    layer, x = torch.nn.Linear(3, 3), torch.randn(3, 3)
    compiled = torch.compile(lambda x: sandwich(layer(x)), backend="tpu", options={**OPERATOR, "freeze": True})
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), sandwich(layer(x)))


def test_other_results_than_the_fake_kernel_says_are_an_error():
    compiled = torch.compile(lambda x: lies(x) + 1, backend="tpu", options=OPERATOR)
    with pytest.raises(RuntimeError, match=r"lies.default at .* returned float32\[1\], and .* says float32\[3\]"):
        compiled(torch.ones(3))


def test_without_the_option_the_error_says_what_to_do():
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match=r'tpu_dynamo.lowers.*"fallback": "operator"'):
        torch.compile(sandwich, backend="tpu")(torch.ones(3, 3))
    with pytest.raises(
        torch._dynamo.exc.BackendCompilerFailed, match=r"no lowering says what own\S*add_into.default writes"
    ):
        torch.compile(written, backend="tpu")(torch.ones(3, 3))


def test_functions_of_autograds_own_are_traced():
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return twice(x) * x

        @staticmethod
        def backward(ctx, gradient):
            return 4 * ctx.saved_tensors[0] * gradient

    x = torch.randn(3, requires_grad=True)
    compiled = torch.compile(lambda x: Square.apply(x.sin()), backend="tpu", options=OPERATOR, fullgraph=True)
    wanted = torch.autograd.grad(Square.apply(x.sin()).sum(), x)
    torch.testing.assert_close(torch.autograd.grad(compiled(x).sum(), x), wanted)


def test_the_report_has_calls_bytes_and_time():
    with tpu_dynamo.diagnose() as report:
        torch.compile(sandwich, backend="tpu", options=OPERATOR)(torch.ones(3, 3))
    (call,) = report.report.operator_calls
    assert (call.calls, call.bytes_moved) == (1, 72)
    assert "twice.default at" in str(report)


def test_parts_are_compiled_ahead_of_time():
    graphs = tpu_dynamo.compile_for(sandwich, (torch.ones(3, 3),), target="cpu", options=OPERATOR)
    assert [graph.name for graph in graphs] == ["0000-inference-part0", "0000-inference-part2"]
