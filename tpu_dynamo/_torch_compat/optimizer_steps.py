"""States of optimizers that PyTorch sets while it traces a step, and after it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from .dtensors import sharding_of


@contextlib.contextmanager
def traced_as_compiled() -> Iterator[None]:
    """Let torch.compiler.is_compiling() be true, so that optimizers keep numbers in tensors, and compile nothing.

    What an optimizer has under torch.compile itself, as torchao's do, becomes part of the trace.
    """
    with torch.compiler._compile_session_context(), torch.compiler.set_stance("force_eager"):
        yield


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


def holds_tensors(value: Any) -> bool:
    """Return True for a tensor that is made of others, as quantised ones are, and is no DTensor."""
    return is_traceable_wrapper_subclass(value) and sharding_of(value) is None
