"""States of optimizers that PyTorch sets while it traces a step, and after it."""

from __future__ import annotations

import contextlib

import torch


def traced_as_compiled() -> contextlib.AbstractContextManager[None]:
    """Return a context in which torch.compiler.is_compiling() is true, so that optimizers keep numbers in tensors."""
    return torch.compiler._compile_session_context()


def mark_stepped(optimizer: torch.optim.Optimizer) -> None:
    """Tell learning rate schedulers, which warn otherwise, that the optimizer has made its step."""
    optimizer._opt_called = True  # type: ignore[attr-defined]
