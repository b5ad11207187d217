"""Settings of a training loop, in whole steps as in eager ones; and what is refused, with the way out."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler
from torch.testing._internal.common_optimizers import optim_db

import tpu_dynamo
from tpu_dynamo import train_step

pytestmark = pytest.mark.sampled(3)

EPSILON = torch.finfo(torch.float32).eps
OPTIMIZERS = {
    name: kind
    for name, kind in vars(torch.optim).items()
    if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
}
REFUSED_OPTIMIZERS = {"LBFGS", "SparseAdam"}


def pair() -> tuple[nn.Module, nn.Module]:
    """A model on the CPU and its copy on the device."""
    torch.manual_seed(0)
    reference = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    return reference, copy.deepcopy(reference).to("tpu")


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(5, 4, generator=generator), torch.randn(5, 2, generator=generator)


def sgd(parameters: Any, **settings: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, **settings)


def eager(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int, max_grad_norm: float | None = None) -> None:
    x, y = batch(seed)
    optimizer.zero_grad()
    F.mse_loss(model(x), y).backward()
    if max_grad_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
    optimizer.step()


def agree(model: nn.Module, reference: nn.Module) -> None:
    actual = {name: value.cpu() for name, value in model.state_dict().items()}
    torch.testing.assert_close(actual, reference.state_dict(), rtol=EPSILON**0.5, atol=100 * EPSILON, equal_nan=True)


def check(
    make: Callable[[nn.Module], torch.optim.Optimizer] = lambda model: sgd(model.parameters()),
    between: Callable[[nn.Module, torch.optim.Optimizer, int], None] = lambda model, optimizer, i: None,
    max_grad_norm: float | None = None,
    steps: int = 3,
) -> None:
    """Whole steps leave the parameters that eager ones leave; `between` is called before each with its number."""
    reference, model = pair()
    theirs, ours = make(reference), make(model)
    step = train_step(model, ours, F.mse_loss, max_grad_norm=max_grad_norm)
    for i in range(steps):
        between(reference, theirs, i)
        between(model, ours, i)
        eager(reference, theirs, i, max_grad_norm)
        step(*(t.to("tpu") for t in batch(i)))
        agree(model, reference)


def test_every_optimizer_of_torchs_is_either_run_or_refused():
    """Every optimizer of torch.optim is in `optim_db`, which test_optimizers.py runs."""
    assert set(OPTIMIZERS) == {info.optim_cls.__name__ for info in optim_db}


@pytest.mark.parametrize("name", sorted(REFUSED_OPTIMIZERS))
def test_an_optimizer_that_is_refused_is_named_with_what_to_do(name):
    model = nn.Linear(3, 2).to("tpu")
    with pytest.raises(tpu_dynamo.UnsupportedOptimizer, match=rf"{name} cannot be .*\n  try: compile the model alone"):
        train_step(model, OPTIMIZERS[name](model.parameters()), F.mse_loss)


SCHEDULES: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "step": lambda o: lr_scheduler.StepLR(o, 2, 0.5),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.5),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 4),
    "cyclic, momentum too": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, step_size_up=2),
    "warm-up, then linear": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 2), lr_scheduler.LinearLR(o, 1.0, 0.5, 2)], [2]
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name):
    schedules: dict[int, Any] = {}

    def make(model: nn.Module) -> torch.optim.Optimizer:
        optimizer = sgd(model.parameters())
        schedules[id(optimizer)] = SCHEDULES[name](optimizer)
        return optimizer

    def between(model: nn.Module, optimizer: torch.optim.Optimizer, i: int) -> None:
        if i:
            optimizer._opt_called = True  # a whole step does not call the optimizer's own
            schedules[id(optimizer)].step()

    check(make, between, steps=4)


def groups(model: nn.Module) -> torch.optim.Optimizer:
    weights, biases = [m.weight for m in (model[0], model[2])], [m.bias for m in (model[0], model[2])]
    return sgd([{"params": weights, "weight_decay": 0.3}, {"params": biases, "lr": 0.01, "momentum": 0.0}])


def frozen_first(model: nn.Module) -> torch.optim.Optimizer:
    model[0].requires_grad_(False)
    return sgd(model.parameters())


def freeze_in_turn(model: nn.Module, optimizer: torch.optim.Optimizer, i: int) -> None:
    """The first layer stays in the second step only."""
    model[0].requires_grad_(i != 1)
    model[0].zero_grad()


def decay_in_between(model: nn.Module, optimizer: torch.optim.Optimizer, i: int) -> None:
    optimizer.param_groups[0]["weight_decay"] = (0.0, 0.2, 0.1)[i]


def momentum_in_between(model: nn.Module, optimizer: torch.optim.Optimizer, i: int) -> None:
    optimizer.param_groups[0]["momentum"] = (0.9, 0.8, 0.5)[i]


def another_group(model: nn.Module, optimizer: torch.optim.Optimizer, i: int) -> None:
    if i == 1:
        optimizer.add_param_group({"params": [model[0].weight], "lr": 0.05})


def reload(model: nn.Module, optimizer: torch.optim.Optimizer, i: int) -> None:
    """The state of the optimizer and the model as from a checkpoint."""
    if i == 2:
        model.load_state_dict({name: value * 0.5 for name, value in model.state_dict().items()})
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


SETTINGS: dict[str, dict[str, Any]] = {
    "weight decay": {"make": lambda model: sgd(model.parameters(), weight_decay=0.3)},
    "nesterov": {"make": lambda model: sgd(model.parameters(), nesterov=True)},
    "groups": {"make": groups},
    "a frozen layer": {"make": frozen_first},
    "a layer frozen in between": {"between": freeze_in_turn},
    "a part of the parameters": {"make": lambda model: sgd(model[2].parameters())},
    "weight decay that changes": {"between": decay_in_between},
    "Adam's weight decay that changes": {
        "make": lambda model: torch.optim.Adam(model.parameters(), lr=0.1, eps=1e-4),
        "between": decay_in_between,
    },
    "nesterov's momentum that changes": {
        "make": lambda model: sgd(model.parameters(), nesterov=True),
        "between": momentum_in_between,
    },
    "a group that is added": {"make": lambda model: sgd(model[2].parameters()), "between": another_group},
    "a checkpoint in between": {"between": reload},
    "clipped hard": {"max_grad_norm": 1e-3},
    "clipped by groups' own rates": {"make": groups, "max_grad_norm": 0.1},
    "clipped never": {"max_grad_norm": 1e6},
    "clipped at infinity": {"max_grad_norm": float("inf")},
    "clipped to nothing": {"max_grad_norm": 0.0},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(name):
    check(**SETTINGS[name])


def test_gradients_that_were_accumulated_before_are_neither_read_nor_written():
    reference, model = pair()
    theirs, ours = sgd(reference.parameters()), sgd(model.parameters())
    gradient = torch.full((6, 4), 100.0).to("tpu")
    model[0].weight.grad = gradient
    step = train_step(model, ours, F.mse_loss)
    eager(reference, theirs, 0)
    step(*(t.to("tpu") for t in batch(0)))
    agree(model, reference)
    assert model[0].weight.grad is gradient
    assert torch.equal(gradient.cpu(), torch.full((6, 4), 100.0))
    assert model[2].weight.grad is None


def of_output(loss: Callable[[torch.Tensor], Any]) -> Callable[[nn.Module], Any]:
    return lambda model: train_step(model, sgd(model.parameters()), lambda output, _: loss(output))


REFUSED: dict[str, tuple[Callable[[nn.Module], Any], str]] = {
    "a loss of many elements": (of_output(lambda out: out), "one floating-point element"),
    "a loss of integers": (of_output(lambda out: out.sum().long()), "one floating-point element|requires a gradient"),
    "a complex loss": (of_output(lambda out: out.sum() * 1j), "one floating-point element"),
    "a loss without a gradient": (of_output(lambda out: out.detach().sum()), "requires a gradient"),
    "hooks of the optimizer": (
        lambda model: [o := sgd(model.parameters()), o.register_step_post_hook(lambda *_: None), train_step(model, o)],
        r"SGD cannot be part of a training step: its step has hooks.*\n  try: ",
    ),
    "a differentiable optimizer": (
        lambda model: train_step(model, torch.optim.Adam(model.parameters(), differentiable=True)),
        r"Adam cannot be part of a training step: with differentiable=True.*\n  try: ",
    ),
    "a model on the CPU": (
        lambda model: train_step(model.cpu(), sgd(model.parameters())),
        r'is on cpu\n  try: model.to\("tpu"\) before',
    ),
    **{
        f"the option {name}": (
            lambda model, name=name, value=value: train_step(model, sgd(model.parameters()), options={name: value}),
            f"option {name}={value!r} has no meaning for train_step: ",
        )
        for name, value in {
            "fallback": "eager", "partitioner": "default", "activation_memory_budget": 0.5, "transfer": "copy",
            "freeze": True,
        }.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_step_is_refused_and_leaves_the_model(name):
    make, words = REFUSED[name]
    reference, model = pair()
    with pytest.raises(Exception, match=words):  # Dynamo wraps what a step's first call raises
        make(model)(*(t.to("tpu") for t in batch(0)))
    agree(model, reference)
