"""Strided views of the memory behind a tensor, read and written."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..layouts import dense_order
from ..table import rewrites

aten = torch.ops.aten


@rewrites(aten.as_strided_copy.default)
def as_strided_copy(
    self: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Tensor:
    """Read a strided view of memory: by slices where the view's dimensions are nested, else by a gather.

    The values of a contiguous vector are its memory; as_strided brings every other tensor to that form.
    """
    if self.ndim != 1 or not self.is_contiguous():
        return aten.as_strided.default(self, size, stride, storage_offset).contiguous()
    if 0 in size:
        return self[:0].reshape(tuple(size))
    memory = self[storage_offset or 0 :]
    steps = sorted((d for d in range(len(size)) if stride[d] != 0 and size[d] != 1), key=lambda d: -stride[d])
    inner = [*((size[d], stride[d]) for d in steps[1:]), (1, 1)]
    if all(stride[d] >= count * step for d, (count, step) in zip(steps, inner, strict=False)):
        return _nested(memory, size, stride, steps)
    return torch.take(self, _places(size, stride, storage_offset or 0, self.device))


def _nested(view: Tensor, size: Sequence[int], stride: Sequence[int], steps: list[int]) -> Tensor:
    """Read a view whose dimensions are nested, each stride spanning the inner ones, by slices and transposes."""
    for d in steps:
        # Rows of `stride` elements; the inner dimensions take the first ones of each.
        needed = size[d] * stride[d]
        view = view[..., :needed]
        view = torch.constant_pad_nd(view, [0, needed - view.shape[-1]])
        view = view.reshape(*view.shape[:-1], size[d], stride[d])
    kept = sorted(steps)
    view = view[..., 0].permute([steps.index(d) for d in kept])
    return view.reshape([size[d] if d in kept else 1 for d in range(len(size))]).expand(size)


@rewrites(aten.as_strided_scatter.default)
def as_strided_scatter(
    self: Tensor, src: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Tensor:
    """Write `src` through a strided view of the memory of a dense `self`: one scatter with constant indices.

    Raises NotImplementedError for a tensor with gaps or overlaps, whose memory the graph does not hold.
    """
    order = dense_order(self.shape, self.stride())
    if order is None:
        raise NotImplementedError("the tensor is itself a view with gaps, and the graph does not hold its whole memory")
    memory = self.permute(order)
    places = _places(size, stride, storage_offset or 0, self.device)
    written = torch.index_put(memory.reshape(-1), [places], src.to(self.dtype))
    return written.reshape(memory.shape).permute([order.index(d) for d in range(self.ndim)])


def _places(size: Sequence[int], stride: Sequence[int], offset: int, device: torch.device) -> Tensor:
    """Return the positions in memory of a strided view's elements, int64 of that size."""
    places = torch.full(tuple(size), offset, dtype=torch.int64, device=device)
    for d, (count, step) in enumerate(zip(size, stride, strict=True)):
        column = (count, *(1,) * (len(size) - 1 - d))
        places = places + (torch.arange(count, device=device) * step).reshape(column)
    return places
