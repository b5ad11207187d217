"""States of optimizers that PyTorch sets while it traces a step, and after it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch


def traced_as_compiled() -> contextlib.AbstractContextManager[None]:
    """Return a context in which torch.compiler.is_compiling() is true, so that optimizers keep numbers in tensors."""
    return torch.compiler._compile_session_context()


def step_has_hooks(optimizer: torch.optim.Optimizer) -> bool:
    """Return True if Python functions run before or after the optimizer's step."""
    return bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)


def gradient_has_hooks(parameter: torch.Tensor) -> bool:
    """Return True if Python looks at the gradient: register_hook or register_post_accumulate_grad_hook was called."""
    return bool(parameter._backward_hooks or parameter._post_accumulate_grad_hooks)


def group_initialiser(optimizer: torch.optim.Optimizer) -> Callable[..., Any] | None:
    """Return the method by which torch's optimizers make the state of a group's parameters; None where there is none.

    It takes the group and one list for each kind of tensor that it finds; it passes over parameters without gradients.
    """
    return getattr(optimizer, "_init_group", None)


def mark_stepped(optimizer: torch.optim.Optimizer) -> None:
    """Tell learning rate schedulers, which warn otherwise, that the optimizer has made its step."""
    optimizer._opt_called = True  # pyright: ignore[reportAttributeAccessIssue]
