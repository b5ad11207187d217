"""Whole training steps of a case: tpu_dynamo.train_step on tensors without values."""

from __future__ import annotations

from typing import Any

import torch

from ..ahead_of_time.steps import capture_steps, model_inputs
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

    for walk in built.walks:
        calls = [_split(args, kwargs, case.targets_of_loss) for args, kwargs in walk]
        capture_steps(
            built.model,
            calls,
            lambda step: warmer.warm(step, {}),
            optimizer=make_optimizer,
            loss=loss,
            max_grad_norm=case.max_grad_norm,
            options=case.options,
        )


def _split(args: tuple[Any, ...], kwargs: dict[str, Any], targets: int) -> tuple[Any, list[Any]]:
    """Split arguments into the model's, a single one without its tuple, and the loss's, the last `targets`."""
    if kwargs:
        names = list(kwargs)
        count = len(names) - targets
        return {name: kwargs[name] for name in names[:count]}, [kwargs[name] for name in names[count:]]
    count = len(args) - targets
    return model_inputs(args[:count], {}), list(args[count:])
