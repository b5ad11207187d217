"""Eager operators on the device while something else is switched on: first uses, which trace and compile."""

from __future__ import annotations

import contextlib
import gc
import itertools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch._higher_order_ops import while_loop
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

import tpu_dynamo

pytestmark = pytest.mark.sampled(2)

_sizes = itertools.count(61)


def counted(x: torch.Tensor) -> torch.Tensor:
    start = torch.tensor(0, device=x.device), x
    return while_loop(lambda i, a: i < 4, lambda i, a: (i + 1, a * 1.5 + i), start)[1]


# Each makes a constant where its input is, and asks for operators on it.
CONSTANTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "function": lambda x: x * torch.tensor(2.0, dtype=torch.float64, device=x.device).lgamma(),
    "arithmetic": lambda x: x + (torch.tensor(1.0, dtype=torch.float64, device=x.device) + 2) ** 3,
    "new_tensor": lambda x: x * x.new_tensor(2.0).sinc(),
    "cast": lambda x: x * torch.tensor(2.5, device=x.device).to(torch.int16),
    "in place": lambda x: x * torch.tensor([1.5], dtype=torch.float64, device=x.device).mul_(3).add_(1),
    "several results": lambda x: x * torch.tensor([0.25], dtype=torch.float64, device=x.device).frexp()[0],
    "view": lambda x: x * torch.tensor([[3.0]], dtype=torch.float64, device=x.device).t()[0].expm1(),
    "conjugated": lambda x: x * (torch.tensor(1 + 2j, device=x.device).conj() * 2).imag,
    "foreach": lambda x: x * torch._foreach_exp([torch.tensor(1.0, dtype=torch.float64, device=x.device)])[0],
    "many elements": lambda x: x + torch.tensor([0.5 * i for i in range(90)], device=x.device).view(5, 18).sum(1),
    "counter of a loop": counted,
    "no meta kernel": lambda x: x * torch.fake_quantize_per_tensor_affine(x.new_tensor(0.7), 0.3, 1, 0, 255),
    "factorisation": lambda x: x * torch.geqrf(x.new_tensor([[3.0]]))[0].abs()[0, 0],
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_operators_on_constants_of_compiled_functions(name):
    function, x = CONSTANTS[name], torch.rand(5)
    compiled = torch.compile(function, backend="tpu", fullgraph=True)
    torch.testing.assert_close(compiled(x.to("tpu")).cpu(), function(x))


@pytest.mark.parametrize("name", ["arithmetic", "conjugated", "counter of a loop", "factorisation"])
def test_operators_on_constants_of_functions_compiled_ahead_of_time(name):
    (graph,) = tpu_dynamo.compile_for(CONSTANTS[name], (torch.rand(5).to("tpu"),), target="cpu")
    assert graph.role == "inference"


@pytest.mark.parametrize(
    ("kind", "bias"),
    [
        pytest.param("GRUCell", True, id="gru"),
        pytest.param("GRUCell", False, marks=pytest.mark.slow, id="gru-without-biases"),
        pytest.param("LSTMCell", True, marks=pytest.mark.slow, id="lstm"),
        pytest.param("LSTMCell", False, id="lstm-without-biases"),
    ],
)
def test_a_recurrent_cell_on_the_device_and_its_gradients(kind, bias):
    kind = getattr(torch.nn, kind)
    cell, there = kind(3, 4, bias=bias), kind(3, 4, bias=bias)
    there.load_state_dict(cell.state_dict())
    compiled = torch.compile(there.to("tpu"), backend="tpu", fullgraph=True)

    def states(run, x, *given):
        result = run(x, given if kind is torch.nn.LSTMCell else given[0])
        return result if isinstance(result, tuple) else (result,)

    for batch in (2, 5):  # the second time its size is symbolic
        given = torch.randn(batch, 3), torch.randn(batch, 4), torch.randn(batch, 4)
        expected = states(cell, *given)
        sum(state.square().sum() for state in expected).backward()
        for run in (there, compiled):
            there.zero_grad()
            found = states(run, *(tensor.to("tpu") for tensor in given))
            sum(state.square().sum() for state in found).backward()
            torch.testing.assert_close([state.cpu() for state in found], list(expected))
            for ours, theirs in zip(there.parameters(), cell.parameters(), strict=True):
                torch.testing.assert_close(ours.grad.cpu(), theirs.grad)
        cell.zero_grad()
    assert len(tpu_dynamo.compile_for(there, (torch.ones(2, 3, device="tpu"),), target="cpu", training=True)) == 2


class Watching(TorchDispatchMode):
    """A user's mode, which sees what the user calls."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


MODES: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("tpu", enabled=True),
    "default device": lambda: torch.device("tpu"),
    "another default device": lambda: torch.device("meta"),
    "deterministic": deterministic,
    "saved tensors": torch.autograd.graph.save_on_cpu,
}


def computed(x: torch.Tensor) -> torch.Tensor:
    """Operators of our own and PyTorch's, in place, on views, and between dtypes."""
    y = x.erfc() + 1
    y[::2].mul_(3)
    return y.flip(0).cumsum(0) * x.to(torch.float16).float()


@pytest.mark.parametrize("name", MODES)
def test_first_uses_under_a_mode(name):
    x = torch.rand(next(_sizes))
    there = x.to("tpu")
    with MODES[name]():
        y = computed(there)
    torch.testing.assert_close(y.cpu(), computed(x), rtol=1e-4, atol=1e-4)


def test_a_users_mode_sees_what_the_user_called_and_no_more():
    x = torch.rand(next(_sizes)).to("tpu")
    with Watching() as first:
        y = x.erfc().log2()
    with Watching() as again:
        x.erfc().log2()
    assert first.seen == again.seen == ["aten.erfc.default", "aten.log2.default"]
    torch.testing.assert_close(y.cpu(), x.cpu().erfc().log2())


def test_first_uses_within_torch_func():
    x = torch.rand(3, next(_sizes))

    def loss(row: torch.Tensor) -> torch.Tensor:
        return (row.erfc() * row.log1p()).cumsum(0).sum()

    for transformed in (torch.func.vmap(loss), torch.func.vmap(torch.func.grad(loss)), torch.func.functionalize(loss)):
        torch.testing.assert_close(transformed(x.to("tpu")).cpu(), transformed(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tracing_mode", ["real", "fake"])
def test_constants_while_a_function_is_traced(tracing_mode):
    def function(x: torch.Tensor) -> torch.Tensor:
        return x * torch.tensor(0.3, dtype=torch.float64, device=x.device).digamma().exp2()

    x = torch.rand(next(_sizes))
    traced = make_fx(function, tracing_mode=tracing_mode)(x.to("tpu"))
    torch.testing.assert_close(traced(x.to("tpu")).cpu(), function(x))


def test_an_operator_without_a_lowering_leaves_nothing_behind():
    gc.disable()
    try:
        x = torch.tensor([0.0, 1.0]).to("tpu")
        gone = weakref.ref(x)
        x.nonzero()
        del x
        assert gone() is None
    finally:
        gc.enable()
