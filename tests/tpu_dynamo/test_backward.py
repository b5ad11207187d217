"""Backward as in eager: again over one graph, under compiled autograd, and what comes of it can be resized."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

import tpu_dynamo
from tests.tpu_dynamo.test_cache import forget

compiled_autograd = torch._dynamo.compiled_autograd

# Dynamo asks tensors that are no leaves for their gradients.
pytestmark = [
    pytest.mark.sampled(2),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf Tensor"),
]


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2), nn.Softplus())


def inputs(rows: int) -> Tensor:
    return torch.linspace(-1, 1, rows * 3).reshape(rows, 3)


def two_backwards(run: Callable[[Tensor], Tensor], x: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    y = run(x)
    first = torch.autograd.grad(y[0].sum(), parameters, retain_graph=True)
    y.square().sum().backward(retain_graph=True)
    y.sum().backward()
    return [*first, *(p.grad for p in parameters if p.grad is not None)]


@pytest.mark.parametrize("device", ["cpu", "tpu"])
def test_a_graph_that_is_kept_runs_backward_again(device):
    torch.manual_seed(0)
    theirs = model()
    ours = copy.deepcopy(theirs).to(device)
    expected = two_backwards(theirs, inputs(4), list(theirs.parameters()))
    for _ in range(2):  # lowered here, and found in the cache
        forget()
        ours.zero_grad()
        found = two_backwards(torch.compile(ours, backend="tpu"), inputs(4).to(device), list(ours.parameters()))
        for actual, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(actual.cpu(), wanted)
    assert tpu_dynamo.stats().lowerings == 0


def test_adversarial_steps_share_a_graph():
    def steps(compiled: bool) -> list[Tensor]:
        torch.manual_seed(0)
        generator, judge = nn.Linear(3, 3), model()
        make, rate = (torch.compile(m, backend="tpu") if compiled else m for m in (generator, judge))
        for _ in range(2):
            made = make(inputs(4))
            (rate(inputs(4)).mean() - rate(made).mean()).backward(retain_graph=True)
            (-rate(made).mean()).backward()
        return [p.grad for p in (*generator.parameters(), *judge.parameters()) if p.grad is not None]

    for actual, expected in zip(steps(True), steps(False), strict=True):
        torch.testing.assert_close(actual, expected)


def test_a_gradient_penalty_inside_the_compiled_function(matches_eager):
    def penalty(x, w):
        (gradient,) = torch.autograd.grad(torch.tanh(x @ w).sum(), x, create_graph=True)
        return (gradient.norm(dim=1) - 1).square().mean()

    def training(run):
        w = torch.linspace(-1, 1, 9).reshape(3, 3).requires_grad_()
        return torch.autograd.grad(run(inputs(4).requires_grad_(), w), w)[0]

    with torch._dynamo.config.patch(trace_autograd_ops=True):
        torch.testing.assert_close(training(torch.compile(penalty, backend="tpu")), training(penalty))


def test_a_second_derivative_is_torchs_error():
    x = inputs(4).requires_grad_()
    (gradient,) = torch.autograd.grad(torch.compile(model(), backend="tpu")(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="does not currently support double backward"):
        gradient.sum().backward()


def test_a_graph_that_is_not_kept_gives_its_memory_back():
    saved: list[weakref.ref[Tensor]] = []

    def packed(tensor: Tensor) -> Tensor:
        saved.append(weakref.ref(tensor))
        return tensor

    run = torch.compile(lambda x: x.sin().exp(), backend="tpu")
    with torch.autograd.graph.saved_tensors_hooks(packed, lambda tensor: tensor):
        y = run(inputs(4).requires_grad_())
    y.sum().backward(retain_graph=True)
    assert any(reference() is not None for reference in saved)
    y.sum().backward()
    del y
    gc.collect()
    assert all(reference() is None for reference in saved)


@pytest.fixture
def without_compiled_autograd() -> Iterator[None]:
    yield
    compiled_autograd.reset()


SETTINGS = {
    "two steps": {},
    "dynamic sizes": {"rows": (4, 5), "dynamic": True},
    "kept graphs, gradients that add up": {"kept": True, "accumulate": True},
}


def trained(
    device: str,
    compiled: bool,
    rows: tuple[int, ...] = (4, 4),
    dynamic: bool | None = None,
    accumulate: bool = False,
    hooks: bool = False,
    kept: bool = False,
) -> list[Tensor]:
    """The gradients of a few steps; with hooks, as data-parallel training has them on its parameters."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    net = model().to(device)
    run = torch.compile(net, backend="tpu", dynamic=dynamic) if compiled else net
    if hooks:
        for parameter in net.parameters():
            parameter.register_hook(lambda gradient: gradient * 2)
            parameter.register_post_accumulate_grad_hook(halve)
    gradients = []
    for n in rows:
        loss = run(inputs(n).to(device)).square().sum()
        if compiled:
            with compiled_autograd._enable(torch.compile(backend="tpu", dynamic=dynamic)):
                backward(loss, kept)
        else:
            backward(loss, kept)
        gradients += [p.grad.cpu() * 1 for p in net.parameters() if p.grad is not None]
        if not accumulate:
            net.zero_grad()
    return gradients


def halve(parameter: Tensor) -> None:
    assert parameter.grad is not None
    parameter.grad.mul_(0.5)


def backward(loss: Tensor, kept: bool) -> None:
    if kept:
        loss.backward(retain_graph=True)
    loss.backward()


@pytest.mark.usefixtures("without_compiled_autograd")
@pytest.mark.parametrize("name", SETTINGS)
def test_compiled_autograd_gives_eagers_gradients(name):
    for actual, expected in zip(
        trained("cpu", True, **SETTINGS[name]), trained("cpu", False, **SETTINGS[name]), strict=True
    ):
        torch.testing.assert_close(actual, expected)


@pytest.mark.usefixtures("without_compiled_autograd")
def test_compiled_autograd_on_the_device():
    for actual, expected in zip(trained("tpu", True, hooks=True), trained("tpu", False, hooks=True), strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.usefixtures("without_compiled_autograd")
def test_compiled_autograd_inside_a_compiled_step():
    def gradients(compiled: bool) -> list[Tensor]:
        torch.manual_seed(0)
        net = model()

        def step(x: Tensor) -> None:
            net(x).square().sum().backward()

        with torch._dynamo.config.patch(compiled_autograd=True):
            (torch.compile(step, backend="tpu") if compiled else step)(inputs(4))
        return [p.grad for p in net.parameters() if p.grad is not None]

    for actual, expected in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(actual, expected)


RESIZES = {
    "resize_": lambda y: y.resize_(10).shape,
    "out": lambda y: torch.mul(torch.ones(5), 2, out=y).tolist(),
    "to nothing": lambda y: y.untyped_storage().resize_(0).nbytes(),
    "the memory": lambda y: (y.untyped_storage().resize_(400), y.tolist())[1],
}


@pytest.mark.parametrize("name", RESIZES)
@pytest.mark.parametrize("transfer", ["shared", "copy"])
@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
def test_results_resize_as_eagers(name, transfer):
    def results(run: Callable[[Tensor], tuple[Tensor, ...]]) -> list[object]:
        x = torch.ones(3, requires_grad=True)
        y, rest = run(x)
        y.sum().backward()
        assert x.grad is not None
        return [RESIZES[name](tensor) for tensor in (y.detach(), rest.detach(), x.grad)]

    def function(x):
        return x.sin().exp(), x + 1

    compiled = torch.compile(function, backend="tpu", options={"transfer": transfer})
    for ours, theirs in zip(results(compiled), results(function), strict=True):
        assert ours == pytest.approx(theirs)


def test_out_inside_of_a_compiled_function():
    def function(x):
        y = torch.empty(0)
        torch.mul(x, 2, out=y)
        return y

    assert torch.compile(function, backend="tpu")(torch.ones(3)).tolist() == [2, 2, 2]
