"""Views of memory: as_strided of a tensor as as_strided_copy of its memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..layouts import dense_order
from ..table import rewrites

aten = torch.ops.aten


@rewrites(aten.as_strided.default)
def as_strided(self: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None) -> Tensor:
    """View a dense tensor's memory, from its first element on, by strides; bases.py finds such tensors for views."""
    order = dense_order(self.shape, self.stride())
    assert order is not None
    memory = self.permute(order).reshape(-1)
    return aten.as_strided_copy.default(memory, size, stride, storage_offset)
