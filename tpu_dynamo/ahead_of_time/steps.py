"""Whole training steps captured on tensors without values: tpu_dynamo.train_step as it would be called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from .._torch_compat import fake_copies, unset_fake_temporarily
from ..device import NAME as DEVICE
from ..graph.prepare import BoxedCallable, PreparedGraph
from ..training.step import TrainStep

MakeOptimizer = Callable[[Iterable[torch.nn.Parameter]], Optimizer]
# The arguments of a step: the model's, and the loss function's after its output.
StepCall = tuple[Any, Sequence[Any]]


def capture_steps(
    model: torch.nn.Module,
    calls: Sequence[StepCall],
    visit: Callable[[PreparedGraph], None],
    *,
    optimizer: MakeOptimizer,
    loss: Callable[..., Any] | None = None,
    max_grad_norm: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Show `visit` the graphs of the steps that `train_step(model, optimizer, loss)` makes for these calls.

    Nothing is computed, and model and tensors stay as they are; meta tensors do. Each call comes twice: an optimizer
    may begin to keep state in its first step. Raises what `visit` and train_step raise.
    """

    def compile_step(step: PreparedGraph) -> BoxedCallable:
        with unset_fake_temporarily():  # constants are real
            visit(step)
        return lambda _: _outputs(step)

    torch.compiler.reset()
    with fake_copies(model, calls, DEVICE) as given:
        made = optimizer(model.parameters())
        step = TrainStep(model, made, loss, max_grad_norm, options, compile_step)
        for inputs, targets in given:
            for _ in range(2):
                step(inputs, *targets)


def model_inputs(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return a model's arguments as a step takes them: one without its tuple, or a dict of those by name.

    In a tuple, Dynamo would meet one argument later than the parameters, which makes another graph.
    """
    if kwargs:
        return dict(kwargs)
    return args[0] if len(args) == 1 else tuple(args)


def _outputs(step: PreparedGraph) -> list[Any]:
    """Return empty tensors like the step's results, fake ones in a fake mode."""
    values: Any = step.module.graph.output_node().args[0]
    fakes = [value.meta["val"] if isinstance(value, torch.fx.Node) else value for value in values]
    return [
        torch.empty_strided(fake.shape, fake.stride(), dtype=fake.dtype, device=fake.device)
        if isinstance(fake, torch.Tensor)
        else fake
        for fake in fakes
    ]
