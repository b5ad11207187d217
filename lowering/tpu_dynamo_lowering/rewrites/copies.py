"""The copying form of every view; a program does not distinguish it from the view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .._torch_compat import OpOverload, copies_of_views, torch_decomposition
from ..table import TABLE, How, Lowering, add, rewrites

aten = torch.ops.aten


def _copied(value: Tensor) -> Tensor:
    # Later rewrites read strides, and a copy has its own, not the view's.
    return value.clone(memory_format=torch.contiguous_format)


def _copy_of(view: OpOverload) -> Callable[..., Any]:
    def compute(*args: Any, **kwargs: Any) -> Any:
        result = view(*args, **kwargs)
        return [_copied(each) for each in result] if isinstance(result, list | tuple) else _copied(result)

    return compute


def enter_copies_of_views() -> None:
    """Enter a rewrite for the copy of every view that the table has, or torch decomposes; the table must be full."""
    for copy, view in copies_of_views():
        if copy not in TABLE and (view in TABLE or torch_decomposition(view) is not None):
            add(Lowering(copy, How.REWRITE, "a view and a copy, which a program does not tell apart.", _copy_of(view)))


@rewrites(aten._reshape_copy.default)
def _reshape_copy(self: Tensor, size: Sequence[int]) -> Tensor:
    """Copy to another shape of as many elements."""
    return _copied(self.reshape(tuple(size)))
