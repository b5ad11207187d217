"""The device's own ATen kernels: making tensors, viewing them, copying them. Everything else is `eager.py`'s."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch

from tpu_dynamo_lowering import dense_order

from ._torch_compat import NAME, OpOverload, as_view, contiguous_stride, reset_tensor
from .cells import Cell, DeviceStorage, cell_of, new_tensor, set_cell
from .tensor_memory import convert, is_lazy, order_of, put_host, read, to_host, write

aten = torch.ops.aten

KERNELS: dict[str, Callable[..., Any]] = {}


def _kernel(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        KERNELS.update(dict.fromkeys(names, function))
        return function

    return enter


def own_index() -> int:
    """Return the number of the process on its host, by which scripts for torchrun name the one device that it has."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def _check_index(device: torch.device | None) -> None:
    if device is not None and device.index not in (None, 0) and device.index != own_index():
        raise RuntimeError(
            f"device {device} does not exist: PyTorch gives Python devices the one index 0\n"
            '  try: "tpu"; a process has one chip, and torchrun starts a process for each (docs/many_chips.md)'
        )


@_kernel("empty.memory_format")
def empty(
    size: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
    memory_format: torch.memory_format | None = None,
) -> torch.Tensor:
    """Return a tensor without values; memory is allocated when something is written to it."""
    _check_index(device)
    dtype = dtype or torch.get_default_dtype()
    if memory_format in (None, torch.contiguous_format, torch.preserve_format):
        return new_tensor(size, None, dtype)
    stride = torch.empty(size, device="meta", memory_format=memory_format).stride()
    return new_tensor(size, stride, dtype)


@_kernel("new_empty")
def new_empty(
    self: torch.Tensor,
    size: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
) -> torch.Tensor:
    """Return a tensor without values, by default of `self`'s dtype and device.

    In the place of a parameter on the CPU it has the parameter's: torch.distributed.checkpoint.async_save asks so for
    the tensor that it saves, and then copies only what has an address in memory or is no subclass of tensors.
    """
    dtype, place = dtype or self.dtype, device or self.device
    if (
        isinstance(self, torch.nn.Parameter)
        and place.type == "cpu"
        and (tuple(size), dtype) == (self.shape, self.dtype)
    ):
        return to_host(self)
    return torch.empty(size, dtype=dtype, device=place, pin_memory=bool(pin_memory))


@_kernel("empty_strided")
def empty_strided(
    size: Sequence[int],
    stride: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
) -> torch.Tensor:
    """Return a tensor of given strides without values."""
    _check_index(device)
    return new_tensor(size, stride, dtype or torch.get_default_dtype())


def _view(operator: OpOverload) -> Callable[..., torch.Tensor]:
    return lambda *args, **kwargs: as_view(operator, *args, **kwargs)


_VIEWS = (
    "as_strided", "view", "view.dtype", "_reshape_alias", "unfold", "view_as_real", "view_as_complex",
)  # fmt: skip
for _name in _VIEWS:
    _base, _, _overload = _name.partition(".")
    KERNELS[_name] = _view(getattr(getattr(aten, _base), _overload or "default"))


@_kernel("_copy_from")
def copy_from(self: torch.Tensor, dst: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    """Write `self`'s values into `dst`, on the device or to and from it; whole tensors then share a buffer.

    Lazily conjugated and negated tensors come unresolved, see `registration.py`.
    """
    if not isinstance(self, torch.Tensor):  # copy_ of a number
        self = torch.scalar_tensor(self, dtype=dst.dtype, device="cpu")
    if dst.device.type != NAME:
        dst.copy_(to_host(self))
        return dst
    if 0 in dst.stride() and any(n > 1 and step == 0 for n, step in zip(dst.shape, dst.stride(), strict=True)):
        raise RuntimeError(  # in PyTorch's words
            "unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
            "Please clone() the tensor before performing the operation."
        )
    if self.device.type != NAME:
        values = self.to(dst.dtype).expand(dst.shape)
        order = order_of(dst)
        write(dst, put_host(values, order), order)
    elif self.dtype == dst.dtype and self.shape == dst.shape:
        order = order_of(dst)
        write(dst, read(self, order), order)
    else:
        convert(self, dst)
    return dst


_PRESERVING = None, torch.preserve_format


def to_copy(self: torch.Tensor, **options: Any) -> torch.Tensor:
    """Return a copy of a device tensor with another dtype, device or memory format; it has its values at once.

    PyTorch would put a copy that need not be waited for (`non_blocking`) into page-locked memory, which PJRT does not
    have, and fail for want of its allocator. It is registered by itself, since wrapping it as the others are would add
    9 us to a copy. The usual copy to the host takes 40 % of the time when it does not go by PyTorch's.
    """
    device = options.get("device")
    if device is not None and device.type == "cpu" and self.numel() and not is_lazy(self):
        as_it_is = options.get("dtype") in (None, self.dtype) and options.get("memory_format") in _PRESERVING
        if as_it_is and not options.get("pin_memory") and dense_order(self.shape, self.stride()) is not None:
            return to_host(self)
    if options.get("non_blocking"):
        options["non_blocking"] = False
    return as_view(aten._to_copy.default, self, **options)


@_kernel("_copy_from_and_resize")
def copy_from_and_resize(self: torch.Tensor, dst: torch.Tensor) -> torch.Tensor:
    """Write `self`'s values into `dst`, after resizing it to `self`'s size."""
    if self.shape != dst.shape:
        dst.resize_(self.shape)
    return copy_from(self, dst)


@_kernel("record_stream")
def record_stream(self: torch.Tensor, s: Any) -> None:
    """Do nothing: PJRT frees memory when the last execution that reads it is done."""


@_kernel("_local_scalar_dense")
def local_scalar_dense(self: torch.Tensor) -> bool | int | float | complex:
    """Return the value of a tensor of one element; waits until it is computed."""
    return to_host(self).item()


@_kernel("equal")
def equal(self: torch.Tensor, other: torch.Tensor) -> bool:
    """Return True if two tensors have the same size and values."""
    return self.shape == other.shape and bool((self == other).all())


@_kernel("resize_")
def resize(
    self: torch.Tensor, size: Sequence[int], *, memory_format: torch.memory_format | None = None
) -> torch.Tensor:
    """Resize `self` in place over its storage, which grows if it is too small; new elements are zero."""
    if tuple(size) == tuple(self.shape) and memory_format is None:
        return self  # with its strides, as PyTorch leaves it
    grown = new_tensor(size, None, self.dtype)
    storage, offset = self.untyped_storage(), int(self.storage_offset())
    needed = (offset + grown.numel()) * self.dtype.itemsize
    if needed > storage.nbytes() and (cell := cell_of(self)) is not None:
        count = needed // cell.dtype.itemsize
        flat = as_view(aten.as_strided.default, self.view(cell.dtype) if cell.dtype != self.dtype else self,
                       (cell.nbytes // cell.dtype.itemsize,), (1,), 0)  # fmt: skip
        longer = torch.cat([flat, torch.zeros(count - flat.numel(), dtype=cell.dtype, device=NAME)])
        set_cell(self, Cell(read(longer, (0,)), (count,), cell.dtype))
    return reset_tensor(self, storage, offset, size, contiguous_stride(size))


@_kernel("_has_compatible_shallow_copy_type")
def has_compatible_shallow_copy_type(self: torch.Tensor, from_: torch.Tensor) -> bool:
    """Return True: `self.data = from_` works, by which Module.to moves a parameter and keeps it the same object.

    It works between plain dense tensors of any two devices, and one of the two is ours whenever PyTorch asks here;
    PyTorch's own answer knows its own devices only. Sparse, quantized and meta tensors do not come here.
    """
    return True


def _as_device_storage(storage: Any) -> Any:
    storage.__class__ = DeviceStorage
    return storage


@_kernel("set_.source_Storage")
def set_storage(self: torch.Tensor, source: Any) -> torch.Tensor:
    """Make `self` a vector over the whole of a storage."""
    count = source.nbytes() // self.dtype.itemsize
    return reset_tensor(self, _as_device_storage(source), 0, (count,), (1,))


@_kernel("set_.source_Storage_storage_offset")
def set_storage_offset(
    self: torch.Tensor, source: Any, storage_offset: int, size: Sequence[int], stride: Sequence[int] = ()
) -> torch.Tensor:
    """Make `self` a view of a storage; contiguous without `stride`."""
    return reset_tensor(self, _as_device_storage(source), storage_offset, size, stride or contiguous_stride(size))


@_kernel("set_.source_Tensor")
def set_tensor(self: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Make `self` a view of `source`'s storage, with its size, strides and offset."""
    return reset_tensor(self, source.untyped_storage(), int(source.storage_offset()), source.shape, source.stride())
