"""Storages that torch made around foreign memory, given an allocator, with which they can be resized as torch's own."""

from __future__ import annotations

import ctypes
import logging
from functools import cache

import torch

log = logging.getLogger("tpu_dynamo.runtime")


class StorageImpl(ctypes.Structure):
    """The fields of torch's `c10::StorageImpl`.

    torch offers no way to set `resizable` and `allocator`, which DLPack's tensors come without, but in C++. Resizing
    then allocates anew and gives the old memory to its deleter. Source: c10/core/StorageImpl.h.
    """

    _fields_ = (
        ("_counted", ctypes.c_uint64 * 2),
        ("data", ctypes.c_void_p),
        ("_deleter", ctypes.c_void_p * 2),
        ("_device", ctypes.c_uint64),
        ("size_bytes", ctypes.c_uint64),
        ("_size_bytes_is_heap_allocated", ctypes.c_bool),
        ("resizable", ctypes.c_bool),
        ("_flags", ctypes.c_uint8 * 14),
        ("allocator", ctypes.c_void_p),
    )


# The fields of the storage whose `_cdata` is given.
storage_at = StorageImpl.from_address


@cache
def cpu_allocator() -> int | None:
    """Find the address of torch's CPU allocator; None, with a warning, where storages are laid out otherwise."""
    own = [torch.UntypedStorage(size) for size in (24, 48)]
    foreign = torch.frombuffer(bytearray(24), dtype=torch.uint8).untyped_storage()
    known = [storage_at(storage._cdata) for storage in (*own, foreign)]
    found = [(fields.data, fields.size_bytes, fields.resizable) for fields in known]
    expected = [(storage.data_ptr(), storage.nbytes(), storage.resizable()) for storage in (*own, foreign)]
    allocators = [fields.allocator for fields in known]
    if found == expected and allocators[0] and allocators == [allocators[0], allocators[0], None]:
        return allocators[0]
    log.warning("results cannot be resized: torch %s lays out its storages otherwise", torch.__version__)
    return None


def let_resize(tensor: torch.Tensor) -> torch.Tensor:
    """Make a tensor's storage resizable, and return the tensor."""
    allocator = cpu_allocator()
    if allocator is not None:
        fields = storage_at(tensor.untyped_storage()._cdata)
        fields.allocator, fields.resizable = allocator, True
    return tensor


def give_address(storage: torch.UntypedStorage) -> None:
    """Make a storage without memory of its own say its number where torch, in C++, asks for its address.

    No other live storage has the number, and views of it have theirs behind it. Nobody reads there: torch's code that
    reads memory takes tensors of the host.
    """
    if cpu_allocator() is not None:
        storage_at(storage._cdata).data = storage._cdata
