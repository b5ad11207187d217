"""Reading and writing device tensors: whole storages by their buffers, views of them by small programs."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch

from tpu_dynamo_lowering import dense_order
from tpu_dynamo_runtime import Buffer, in_job

from ._torch_compat import contiguous_stride
from .cells import Cell, cell_of, set_cell
from .operator_programs import DeviceProgram, compile_program, transfer

aten = torch.ops.aten

MemoryOrder = tuple[int, ...]

# Bytes of a storage that may cross for its tensor to be printed; a program picks the values to print from larger ones.
_MOST_TO_PRINT = 2**26


def order_of(tensor: torch.Tensor) -> MemoryOrder:
    """Return the memory order of a tensor: its own if it is dense, else row-major."""
    return dense_order(tensor.shape, tensor.stride()) or tuple(range(tensor.ndim))


def is_lazy(tensor: torch.Tensor) -> bool:
    """Return True for a conjugated or negated view, whose values are not those in its memory."""
    return tensor.is_conj() or tensor.is_neg()


def read(tensor: torch.Tensor, order: MemoryOrder) -> Buffer:
    """Return the values of a device tensor as a dense buffer, its dimensions permuted by `order`."""
    buffer = _read_memory(tensor, order)
    return _conjugate_or_negate(tensor, buffer, order) if is_lazy(tensor) else buffer


def _read_memory(tensor: torch.Tensor, order: MemoryOrder) -> Buffer:
    cell = _allocated_cell(tensor)
    physical = tuple(tensor.shape[d] for d in order)
    if _is_whole(tensor, cell) and cell.dtype == tensor.dtype and dense_order(tensor.shape, tensor.stride()) == order:
        if cell.shape == physical:
            return cell.buffer
        program = _reshape(cell.shape, physical, cell.dtype)
    else:
        offset = int(tensor.storage_offset())
        view = tuple(tensor.shape), tensor.stride(), offset, tensor.dtype
        if in_job() and tensor.numel():
            program = _reader_at(cell.shape, cell.dtype, (*view[:2], tensor.dtype), order)
            return program([cell.buffer, _number(offset)])[0]
        program = _reader(cell.shape, cell.dtype, view, order)
    return program([cell.buffer])[0]


def write(tensor: torch.Tensor, buffer: Buffer, order: MemoryOrder) -> None:
    """Put values into a device tensor; `buffer` has its dtype, and its dimensions permuted by `order`."""
    physical = tuple(tensor.shape[d] for d in order)
    if is_lazy(tensor):
        buffer = _conjugate_or_negate(tensor, buffer, order)
    dense = dense_order(tensor.shape, tensor.stride())
    if dense is not None and tensor.storage_offset() == 0 and tensor.nbytes == tensor.untyped_storage().nbytes():
        if dense != order:
            buffer = _transpose(physical, order, dense, tensor.dtype)([buffer])[0]
            physical = tuple(tensor.shape[d] for d in dense)
        set_cell(tensor, Cell(buffer, physical, tensor.dtype))
        return
    cell = _allocated_cell(tensor)
    offset = int(tensor.storage_offset())
    view = tuple(tensor.shape), tensor.stride(), offset, tensor.dtype
    if in_job() and tensor.numel():
        program = _writer_at(cell.shape, cell.dtype, (*view[:2], tensor.dtype), order)
        written = program([cell.buffer, buffer, _number(offset)])[0]
    else:
        written = _writer(cell.shape, cell.dtype, view, order)([cell.buffer, buffer])[0]
    set_cell(tensor, Cell(written, cell.shape, cell.dtype))


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """Return the values of a device tensor as a CPU tensor, of the same strides if the tensor is dense."""
    order = order_of(tensor)
    (values,) = transfer().take([read(tensor, order)], [tensor.dtype])
    return values.permute([order.index(d) for d in range(len(order))])


def printed_from(tensor: torch.Tensor) -> torch.Tensor:
    """Return a CPU tensor with the values of a device tensor, or the tensor itself where its storage is large.

    Nothing is compiled: the whole storage crosses, and is viewed as the tensor views it.
    """
    cell = _allocated_cell(tensor)
    if cell.nbytes > _MOST_TO_PRINT:
        return tensor
    (values,) = transfer().take([cell.buffer], [cell.dtype])
    view = _vector(values, tensor.dtype).as_strided(tensor.shape, tensor.stride(), int(tensor.storage_offset()))
    view = view.conj() if tensor.is_conj() else view
    return aten._neg_view(view) if tensor.is_neg() else view


def put_host(tensor: torch.Tensor, order: MemoryOrder) -> Buffer:
    """Upload a CPU tensor; return a dense buffer with its dimensions permuted by `order`."""
    dense = tensor.detach().resolve_conj().resolve_neg().permute(order).contiguous()
    return transfer().put(dense)


def duplicate(buffer: Buffer, shape: tuple[int, ...], dtype: torch.dtype) -> Buffer:
    """Return a new buffer with the values of `buffer`, whose array has this shape and dtype."""
    return _reshape(shape, shape, dtype)([buffer])[0]


def convert(source: torch.Tensor, tensor: torch.Tensor) -> None:
    """Write another tensor's values into a device tensor, broadcast and cast."""
    order = order_of(source)
    physical = tuple(source.shape[d] for d in order)
    wanted = tuple(tensor.shape), order_of(tensor), tensor.dtype
    values = _converter(physical, order, source.dtype, *wanted)([read(source, order)])[0]
    write(tensor, values, wanted[1])


def _conjugate_or_negate(tensor: torch.Tensor, buffer: Buffer, order: MemoryOrder) -> Buffer:
    """Return a lazy view's values from those in its memory, or these from its values: each inverts itself."""
    physical = tuple(tensor.shape[d] for d in order)
    return _conjugator(physical, tensor.dtype, tensor.is_conj(), tensor.is_neg())([buffer])[0]


def _allocated_cell(tensor: torch.Tensor) -> Cell:
    """Return the memory behind a tensor; zeros, now allocated, if nothing was written to it.

    Raises RuntimeError for a storage that was freed by `resize_(0)`.
    """
    cell = cell_of(tensor)
    if cell is None:
        if tensor.untyped_storage().freed:  # pyright: ignore[reportAttributeAccessIssue]
            raise RuntimeError(
                f"a tensor of shape {tuple(tensor.shape)} on the device has no memory: its storage was resized to 0"
            )
        count = tensor.untyped_storage().nbytes() // tensor.dtype.itemsize
        cell = Cell(put_host(torch.zeros(count, dtype=tensor.dtype, device="cpu"), (0,)), (count,), tensor.dtype)
        set_cell(tensor, cell)
    return cell


def _is_whole(tensor: torch.Tensor, cell: Cell) -> bool:
    return tensor.storage_offset() == 0 and tensor.numel() == math.prod(cell.shape)


def _vector(memory: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    flat = memory.reshape(-1)
    return flat if flat.dtype == dtype else flat.view(dtype)


@lru_cache(maxsize=4096)
def _reader(base: tuple[int, ...], dtype: torch.dtype, view: Any, order: MemoryOrder) -> DeviceProgram:
    size, stride, offset, wanted = view

    def gather(memory: torch.Tensor) -> torch.Tensor:
        return aten.as_strided_copy(_vector(memory, wanted), size, stride, offset).permute(order).contiguous()

    return compile_program(gather, [(base, contiguous_stride(base), dtype)])


@lru_cache(maxsize=4096)
def _writer(base: tuple[int, ...], dtype: torch.dtype, view: Any, order: MemoryOrder) -> DeviceProgram:
    size, stride, offset, wanted = view
    physical = tuple(size[d] for d in order)

    def scatter(memory: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        values = values.permute([order.index(d) for d in range(len(order))])
        written = aten.as_strided_scatter(_vector(memory, wanted), values, size, stride, offset)
        return _vector(written, dtype).reshape(base)

    specs = [(base, contiguous_stride(base), dtype), (physical, contiguous_stride(physical), wanted)]
    return compile_program(scatter, specs)


# In a job, ranks read and write views such as their own shards at offsets of their own. As operands, these leave the
# programs equal on all ranks, so that one compiles for all. Alone, a constant offset is the better program.


@lru_cache(maxsize=4096)
def _number(value: int) -> Buffer:
    return put_host(torch.tensor(value, device="cpu"), ())


def _extent(size: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Return the number of elements from a view's first to its last."""
    return 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))


@lru_cache(maxsize=4096)
def _reader_at(base: tuple[int, ...], dtype: torch.dtype, view: Any, order: MemoryOrder) -> DeviceProgram:
    size, stride, wanted = view

    def gather(memory: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        part = torch.ops.tpu_dynamo.slice_at(_vector(memory, wanted), 0, offset, _extent(size, stride))
        return aten.as_strided_copy(part, size, stride, 0).permute(order).contiguous()

    return compile_program(gather, [(base, contiguous_stride(base), dtype), ((), (), torch.int64)])


@lru_cache(maxsize=4096)
def _writer_at(base: tuple[int, ...], dtype: torch.dtype, view: Any, order: MemoryOrder) -> DeviceProgram:
    size, stride, wanted = view
    physical = tuple(size[d] for d in order)

    def scatter(memory: torch.Tensor, values: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        values = values.permute([order.index(d) for d in range(len(order))])
        whole = _vector(memory, wanted)
        part = torch.ops.tpu_dynamo.slice_at(whole, 0, offset, _extent(size, stride))
        part = aten.as_strided_scatter(part, values, size, stride, 0)
        return _vector(torch.ops.tpu_dynamo.put_at(whole, part, 0, offset), dtype).reshape(base)

    specs = [
        (base, contiguous_stride(base), dtype),
        (physical, contiguous_stride(physical), wanted),
        ((), (), torch.int64),
    ]
    return compile_program(scatter, specs)


@lru_cache(maxsize=4096)
def _converter(
    physical: tuple[int, ...],
    order: MemoryOrder,
    dtype: torch.dtype,
    size: tuple[int, ...],
    wanted: MemoryOrder,
    wanted_dtype: torch.dtype,
) -> DeviceProgram:
    def converted(values: torch.Tensor) -> torch.Tensor:
        values = values.permute([order.index(d) for d in range(len(order))])
        return values.to(wanted_dtype).expand(size).permute(wanted).clone(memory_format=torch.contiguous_format)

    return compile_program(converted, [(physical, contiguous_stride(physical), dtype)])


@lru_cache(maxsize=4096)
def _conjugator(physical: tuple[int, ...], dtype: torch.dtype, conjugated: bool, negated: bool) -> DeviceProgram:
    def conjugate_or_negate(values: torch.Tensor) -> torch.Tensor:
        values = torch.conj_physical(values) if conjugated else values
        return torch.neg(values) if negated else values

    return compile_program(conjugate_or_negate, [(physical, contiguous_stride(physical), dtype)])


@lru_cache(maxsize=4096)
def _reshape(base: tuple[int, ...], shape: tuple[int, ...], dtype: torch.dtype) -> DeviceProgram:
    return compile_program(lambda memory: memory.reshape(shape).clone(), [(base, contiguous_stride(base), dtype)])


@lru_cache(maxsize=4096)
def _transpose(physical: tuple[int, ...], order: MemoryOrder, wanted: MemoryOrder, dtype: torch.dtype) -> DeviceProgram:
    def transpose(values: torch.Tensor) -> torch.Tensor:
        return values.permute([order.index(d) for d in wanted]).contiguous()

    return compile_program(transpose, [(physical, contiguous_stride(physical), dtype)])
