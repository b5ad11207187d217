"""The memory behind storages of the device: a PJRT buffer, shared by all tensors that view the storage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from tpu_dynamo_runtime import Buffer, give_address

from ._torch_compat import contiguous_stride, empty_tensor, shared_storage


class Cell:
    """The memory of one storage: a dense row-major array of `shape` and `dtype` that begins at its first byte.

    Held by the storage's Python object, which lives and dies with the storage. Buffers never change: an in-place
    operation puts another buffer into the cell, so two cells may hold one buffer.
    """

    __slots__ = ("__weakref__", "buffer", "dtype", "shape")

    def __init__(self, buffer: Buffer, shape: tuple[int, ...], dtype: torch.dtype):
        self.buffer = buffer
        self.shape = shape
        self.dtype = dtype

    @property
    def nbytes(self) -> int:
        """The bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


class HostStorage(torch.UntypedStorage):
    """A storage of the CPU that copies the device's into itself, as checkpoints that are saved beside a run do."""

    def copy_(self, source: Any, non_blocking: bool | None = None) -> Any:
        """Copy another storage's memory, of the CPU or of the device."""
        if isinstance(source, DeviceStorage):
            source = source.cpu()
        super().copy_(source, non_blocking)
        return self


class DeviceStorage(torch.UntypedStorage):
    """A storage of the device. It has no address in the host's memory: its number stands for one, in C++ too.

    freed: True after `resize_(0)`, until it gets memory again.
    """

    cell: Cell | None = None
    freed = False

    def __new__(cls, *args: Any, device: Any = None, **kwargs: Any) -> Any:
        """Return a storage of the hosts' memory where that is asked for, as a copy of this one's kind on the CPU."""
        made = HostStorage if device is not None and torch.device(device).type == "cpu" else cls
        make: Any = torch.UntypedStorage.__new__
        return make(made, *args, device=device, **kwargs)

    @classmethod
    def _new_shared(cls, size: int, *, device: Any = "cpu") -> Any:
        made = shared_storage(size, device)
        made.__class__ = HostStorage
        return made

    def data_ptr(self) -> int:
        """Return a number that no other live storage has."""
        return self._cdata


def cell_of(tensor: torch.Tensor) -> Cell | None:
    """Return the memory behind a tensor of the device; None while nothing was written to it."""
    return tensor.untyped_storage().cell  # pyright: ignore[reportAttributeAccessIssue]


def set_cell(tensor: torch.Tensor, cell: Cell) -> None:
    """Put memory behind a tensor's storage."""
    tensor.untyped_storage().cell = cell  # pyright: ignore[reportAttributeAccessIssue]


def new_tensor(size: Sequence[int], stride: Sequence[int] | None, dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor of the device without values; contiguous if `stride` is None."""
    tensor = empty_tensor(size, stride, dtype, DeviceStorage)
    give_address(tensor.untyped_storage())
    return tensor


def wrap(
    buffer: Buffer, shape: tuple[int, ...], dtype: torch.dtype, order: tuple[int, ...] | None = None
) -> torch.Tensor:
    """Return a tensor of the device whose memory is `buffer`.

    shape: the tensor's own; the buffer's is that permuted by `order`, the tensor's dimensions from the outermost in
    memory to the innermost; None for row-major.
    """
    if order is None:
        tensor = new_tensor(shape, None, dtype)
        set_cell(tensor, Cell(buffer, shape, dtype))
        return tensor
    physical = tuple(shape[d] for d in order)
    tensor = new_tensor(shape, strides_of(physical, order), dtype)
    set_cell(tensor, Cell(buffer, physical, dtype))
    return tensor


def strides_of(physical: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a tensor of which memory has the dimensions in `order`, with the sizes `physical`."""
    dense = contiguous_stride(physical)
    return tuple(dense[order.index(d)] for d in range(len(order)))
