"""The copying form of every view; a program does not distinguish it from the view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import decompositions, kernels  # noqa: F401, which say what views there are
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


for _copy, _view in copies_of_views():
    if _copy not in TABLE and (_view in TABLE or torch_decomposition(_view) is not None):
        add(
            Lowering(
                _copy,
                How.REWRITE,
                "the view operator and a copy; a program does not distinguish them.",
                _copy_of(_view),
            )
        )


@rewrites(aten._reshape_copy.default)
def _reshape_copy(self: Tensor, size: Sequence[int]) -> Tensor:
    """Copy to another shape of as many elements."""
    return _copied(self.reshape(tuple(size)))
