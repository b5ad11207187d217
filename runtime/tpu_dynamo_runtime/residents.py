"""Parameters of CPU models on a device with its own memory: one copy of each, whichever programs take it."""

from __future__ import annotations

import weakref
from collections.abc import Hashable

import torch

from .pjrt import Buffer

# A tensor's dimensions from the outermost in memory to the innermost; None for row-major.
MemoryOrder = tuple[int, ...] | None


class Copy:
    """A copy of a tensor at one version.

    In-place changes raise the version, `.data =` and `set_` change the storage. The storage is held weakly, and the
    buffer goes when it goes; the tensor is not, since PyTorch refuses to swap tensors that someone refers to, as
    load_state_dict may.
    """

    __slots__ = ("__weakref__", "_address", "_storage", "_version", "buffer", "nbytes")

    def __init__(self, tensor: torch.Tensor, buffer: Buffer):
        def drop(gone: object) -> None:
            self.buffer = None

        self._storage = weakref.ref(tensor.untyped_storage(), drop)
        self._address = tensor.data_ptr()
        self._version = tensor._version
        self.buffer = buffer
        self.nbytes = tensor.nbytes

    def holds(self, tensor: torch.Tensor) -> bool:
        """Return True if the buffer has the values that `tensor` has now."""
        # The version last: inference tensors, of which there are no copies, have none.
        return (
            self._address == tensor.data_ptr()
            and self._storage() is tensor.untyped_storage()
            and self._version == tensor._version
        )

    def renew(self, tensor: torch.Tensor, buffer: Buffer) -> None:
        """Take the buffer of another version; every program that uses the copy then has it."""
        self.buffer, self._version = buffer, tensor._version


class Residents:
    """The copies of parameters on one device that are in use; each goes with the last program that uses it."""

    def __init__(self) -> None:
        self._copies: weakref.WeakValueDictionary[Hashable, Copy] = weakref.WeakValueDictionary()

    def find(self, tensor: torch.Tensor, order: MemoryOrder) -> Copy | None:
        """Return the copy that has a tensor's present values in a memory order; None if no program uses one."""
        copy = self._copies.get(_place(tensor, order))
        return copy if copy is not None and copy.holds(tensor) else None

    def add(self, tensor: torch.Tensor, order: MemoryOrder, buffer: Buffer) -> Copy:
        """Register `buffer`, with a tensor's present values, as its copy, in the place of a copy with older values."""
        place = _place(tensor, order)
        copy = self._copies.get(place)
        if copy is None or copy.buffer is None:  # a storage that is gone may have had the same address
            copy = self._copies[place] = Copy(tensor, buffer)
        else:
            copy.renew(tensor, buffer)
        return copy

    @property
    def nbytes(self) -> int:
        """Bytes of the device's memory that they take."""
        return sum(copy.nbytes for copy in self._copies.values() if copy.buffer is not None)


def _place(tensor: torch.Tensor, order: MemoryOrder) -> Hashable:
    storage = tensor.untyped_storage()
    lazy = tensor.is_conj(), tensor.is_neg()  # views of one memory with other values
    return storage._cdata, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype, lazy, order
