"""Storages of the device as bytes, which PyTorch needs for saving, loading and deep copies."""

from __future__ import annotations

from typing import Any

import torch

from ._torch_compat import NAME
from .cells import Cell, DeviceStorage, new_tensor, set_cell
from .tensor_memory import put_host, to_host


def read_bytes(storage: torch.UntypedStorage) -> torch.Tensor:
    """Return a storage's memory as a uint8 vector on the CPU."""
    whole = new_tensor((0,), None, torch.uint8)
    return to_host(whole.set_(storage))


def storage_of(data: torch.Tensor) -> torch.UntypedStorage:
    """Return a storage of the device with the values of a uint8 vector on the CPU."""
    tensor = new_tensor(tuple(data.shape), None, torch.uint8)
    set_cell(tensor, Cell(put_host(data, (0,)), tuple(data.shape), torch.uint8))
    return tensor.untyped_storage()


def _clone(self: DeviceStorage) -> torch.UntypedStorage:
    tensor = new_tensor((self.nbytes(),), None, torch.uint8)
    if self.cell is not None:  # buffers never change, so two cells may hold one
        set_cell(tensor, Cell(self.cell.buffer, self.cell.shape, self.cell.dtype))
    return tensor.untyped_storage()


def _deepcopy(self: DeviceStorage, memo: dict[int, Any]) -> torch.UntypedStorage:
    if self._cdata not in memo:
        copy = _clone(self)
        copy.__class__ = torch.UntypedStorage  # PyTorch insists; `set_` makes it the device's again
        memo[self._cdata] = copy
    return memo[self._cdata]


def _cpu(self: DeviceStorage) -> torch.UntypedStorage:
    return read_bytes(self).untyped_storage()


def _write_file(self: DeviceStorage, *args: Any) -> None:
    _cpu(self)._write_file(*args)


def _set_from_file(self: DeviceStorage, *args: Any) -> None:
    host = torch.UntypedStorage(self.nbytes())
    host._set_from_file(*args)
    data = torch.empty(0, dtype=torch.uint8, device="cpu").set_(host)
    self.cell = Cell(put_host(data, (0,)), tuple(data.shape), torch.uint8)


def _size(self: DeviceStorage) -> int:
    """Return the bytes that the storage may hold: none while it is freed."""
    return 0 if self.freed and self.cell is None else self.nbytes()


def _resize(self: DeviceStorage, size: int) -> DeviceStorage:
    """Drop the memory for size 0, so that tensors keep their shapes and have no values; take it again for another.

    Memory that is taken again has no values until something is written to it. A storage that grows keeps its values.
    Raises RuntimeError for a size between: the memory of a buffer cannot be cut.
    """
    if size == 0:
        self.cell, self.freed = None, True
        return self
    if 0 < size < self.nbytes():
        raise RuntimeError(
            f"a storage of {self.nbytes()} bytes on the device {NAME!r} can be resized to 0 or made larger, not to "
            f"{size}\n  try: clone() the part of the tensor that is to stay"
        )
    self.freed = False
    if size > self.nbytes():
        new_tensor((0,), None, torch.uint8).set_(self).resize_(size)
    return self


def _tag(storage: Any) -> str | None:
    storage = getattr(storage, "_untyped_storage", storage)  # a typed one of torch.package
    return f"{NAME}:0" if storage.device.type == NAME else None


def _restore(storage: Any, location: str) -> Any:
    if not location.startswith(NAME):
        return None
    if isinstance(storage, torch.storage.TypedStorage):  # of torch.package, which puts it into one of the right dtype
        return torch.storage.TypedStorage(
            wrap_storage=_restore(storage._untyped_storage, location), dtype=torch.uint8, _internal=True
        )
    if storage.device.type == NAME:
        return storage
    data = torch.empty(0, dtype=torch.uint8, device="cpu").set_(storage)
    return storage_of(data)


def register_storages() -> None:
    """Make torch.save, torch.load and copy.deepcopy work with the device's storages."""
    methods = {
        "clone": _clone,
        "__deepcopy__": _deepcopy,
        "cpu": _cpu,
        "size": _size,
        "resize_": _resize,
        "_write_file": _write_file,
        "_set_from_file": _set_from_file,
    }
    for name, method in methods.items():
        setattr(DeviceStorage, name, method)
    # Before PyTorch's own for PrivateUse1, which needs an allocator in C++.
    torch.serialization.register_package(15, _tag, _restore)
