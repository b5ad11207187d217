"""Whole training steps of a case: tpu_dynamo.train_step on tensors without values."""

from __future__ import annotations

from typing import Any

import torch

from .._torch_compat import fake_copies, unset_fake_temporarily
from ..device import NAME as DEVICE
from ..graph.prepare import BoxedCallable, PreparedGraph
from ..training.step import TrainStep
from .cases import Case
from .factories import Built, load
from .problems import CaseError
from .warming import Warmer


def warm_step(case: Case, built: Built, warmer: Warmer) -> None:
    """Warm the steps that `train_step(model, optimizer, loss)` makes for the case's inputs.

    Each batch comes twice: an optimizer may begin to keep state in its first step. Raises CaseError, and what
    train_step raises.
    """
    if not isinstance(built.model, torch.nn.Module):
        raise CaseError('the mode "step" trains a module, and the factory returns none')
    if case.optimizer is None:
        raise CaseError('the mode "step" needs an `optimizer`, as models:make_adamw')
    make_optimizer = load(case.optimizer, case.folders)
    loss = load(case.loss, case.folders) if case.loss is not None else None

    def compile_step(step: PreparedGraph) -> BoxedCallable:
        # Constants are real: lowering computes what depends on no input.
        with unset_fake_temporarily():
            warmer.warm(step, {})
        return lambda _: _outputs(step)

    for walk in built.walks:
        torch.compiler.reset()
        with fake_copies(built.model, walk, DEVICE) as calls:
            optimizer = make_optimizer(built.model.parameters())
            step = TrainStep(built.model, optimizer, loss, case.max_grad_norm, case.options, compile_step)
            for args, kwargs in calls:
                inputs, targets = _split(args, kwargs, case.targets_of_loss)
                for _ in range(2):
                    step(inputs, *targets)


def _split(args: tuple[Any, ...], kwargs: dict[str, Any], targets: int) -> tuple[Any, list[Any]]:
    """Split arguments into the model's, a single one without its tuple, and the loss's, the last `targets`."""
    if kwargs:
        names = list(kwargs)
        count = len(names) - targets
        return {name: kwargs[name] for name in names[:count]}, [kwargs[name] for name in names[count:]]
    count = len(args) - targets
    own = args[:count]
    # In a tuple, Dynamo would meet it later than the parameters, which makes another graph.
    return own[0] if len(own) == 1 else own, list(args[count:])


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
