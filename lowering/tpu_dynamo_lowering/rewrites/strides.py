"""Views of memory: as_strided said on the memory itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..layouts import dense_order
from ..table import rewrites

aten = torch.ops.aten


@rewrites(aten.as_strided.default)
def as_strided(self: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None) -> Tensor:
    """A strided view of the memory behind a tensor, which must be dense: then its values are that memory.

    Raises NotImplementedError for a tensor with gaps or overlaps, whose memory the graph does not hold.
    """
    order = dense_order(self.shape, self.stride())
    if order is None:
        raise NotImplementedError("the tensor is itself a view with gaps, and the graph does not hold its whole memory")
    memory = self.permute(order).reshape(-1)
    return aten.as_strided_copy.default(memory, size, stride, storage_offset)
