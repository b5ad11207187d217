"""Reading and writing device tensors: whole storages by their buffers, views of them on the host or by programs."""

from __future__ import annotations

import math

import torch

from tpu_dynamo_lowering import TensorSpec, dense_order
from tpu_dynamo_runtime import Buffer

from ._torch_compat import reset_tensor
from .cells import Cell, cell_of, set_cell, strides_of
from .host_memory import adopt, borrowing, copy_in, copy_out, in_order, memory_of, reachable, seen_as
from .memory_programs import MemoryOrder, conjugator, converter, number, reader, reshape, transposer, writer
from .operator_programs import transfer

# Bytes of a storage that may cross for its tensor to be printed; a program picks the values to print from larger ones.
_MOST_TO_PRINT = 2**26


def order_of(tensor: torch.Tensor) -> MemoryOrder:
    """Return the memory order of a tensor: its own if it is dense, else row-major."""
    return dense_order(tensor.shape, tensor.stride()) or tuple(range(tensor.ndim))


def is_lazy(tensor: torch.Tensor) -> bool:
    """Return True for a conjugated or negated view, whose values are not those in its memory."""
    return tensor.is_conj() or tensor.is_neg()


@borrowing
def read(tensor: torch.Tensor, order: MemoryOrder) -> Buffer:
    """Return the values of a device tensor as a dense buffer, its dimensions permuted by `order`."""
    cell = allocated_cell(tensor)
    physical = tuple(tensor.shape[d] for d in order)
    lazy = is_lazy(tensor)
    whole = _is_whole(tensor, cell) and cell.dtype == tensor.dtype
    whole = whole and dense_order(tensor.shape, tensor.stride()) == order
    if whole and cell.shape == physical and not lazy:
        return cell.buffer
    if reachable():
        return copy_out(cell, tensor, order)
    if whole:
        values = cell.buffer if cell.shape == physical else reshape(cell.shape, physical, cell.dtype)([cell.buffer])[0]
    else:
        program = reader(cell.shape, cell.dtype, (tuple(tensor.shape), tensor.stride(), tensor.dtype), order)
        values = program([cell.buffer, number(int(tensor.storage_offset()))])[0]
    return _conjugate_or_negate(tensor, values, order) if lazy else values


@borrowing
def write(tensor: torch.Tensor, buffer: Buffer, order: MemoryOrder) -> None:
    """Put values into a device tensor; `buffer` has its dtype, and its dimensions permuted by `order`."""
    dense = _order_if_whole(tensor)
    if dense == order and not is_lazy(tensor):
        set_cell(tensor, Cell(buffer, tuple(tensor.shape[d] for d in order), tensor.dtype))
    elif reachable():
        overwrite(tensor, in_order(buffer, order))
    else:
        physical = tuple(tensor.shape[d] for d in order)
        if is_lazy(tensor):
            buffer = _conjugate_or_negate(tensor, buffer, order)
        if dense is not None:
            buffer = transposer(physical, order, dense, tensor.dtype)([buffer])[0] if dense != order else buffer
            set_cell(tensor, Cell(buffer, tuple(tensor.shape[d] for d in dense), tensor.dtype))
            return
        cell = allocated_cell(tensor)
        program = writer(cell.shape, cell.dtype, (tuple(tensor.shape), tensor.stride(), tensor.dtype), order)
        written = program([cell.buffer, buffer, number(int(tensor.storage_offset()))])[0]
        set_cell(tensor, Cell(written, cell.shape, cell.dtype))


def assign(tensor: torch.Tensor, buffer: Buffer, spec: TensorSpec) -> None:
    """Put the result of an operator into a tensor that it writes to, which takes the result's size if it has another.

    spec: the result's; the buffer's dimensions are permuted by its order.
    """
    if tuple(tensor.shape) != spec.shape:  # an `out` of another size
        physical, offset = spec.physical_shape, int(tensor.storage_offset())
        strides = strides_of(physical, spec.order)
        if offset == 0 and tensor.untyped_storage().nbytes() < math.prod(physical) * spec.dtype.itemsize:
            reset_tensor(tensor, tensor.untyped_storage(), 0, spec.shape, strides)
            set_cell(tensor, Cell(buffer, physical, spec.dtype))
            return
        # It may be a part of another tensor, as the half of torch.fft.fftfreq's result that is not there yet.
        tensor.resize_(spec.shape)
        reset_tensor(tensor, tensor.untyped_storage(), offset, spec.shape, strides)
    write(tensor, buffer, spec.order)


def overwrite(tensor: torch.Tensor, values: torch.Tensor) -> None:
    """Put the values of a CPU tensor, cast and broadcast, into a device tensor whose memory the host can reach."""
    order = _order_if_whole(tensor)
    if order is None or is_lazy(tensor):
        set_cell(tensor, copy_in(allocated_cell(tensor), tensor, values))
        return
    physical = tuple(tensor.shape[d] for d in order)
    dense = torch.empty(physical, dtype=tensor.dtype, device="cpu")
    dense.permute([order.index(d) for d in range(len(order))]).copy_(values)
    set_cell(tensor, Cell(adopt(dense, range(dense.ndim)), physical, tensor.dtype))


def _order_if_whole(tensor: torch.Tensor) -> MemoryOrder | None:
    """Return the memory order of a dense tensor over the whole of its storage; None for every other."""
    if tensor.storage_offset() or tensor.nbytes != tensor.untyped_storage().nbytes():
        return None
    return dense_order(tensor.shape, tensor.stride())


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """Return the values of a device tensor as a CPU tensor, of the same strides if the tensor is dense."""
    order = order_of(tensor)
    (values,) = transfer().take([read(tensor, order)], [tensor.dtype])
    return values.permute([order.index(d) for d in range(len(order))])


def printed_from(tensor: torch.Tensor) -> torch.Tensor:
    """Return a CPU tensor with the values of a device tensor, or the tensor itself where its storage is large.

    Nothing is compiled: the whole storage crosses, and is viewed as the tensor views it.
    """
    cell = allocated_cell(tensor)
    if cell.nbytes > _MOST_TO_PRINT:
        return tensor
    return seen_as(transfer().take([cell.buffer], [cell.dtype])[0], tensor)


def put_host(tensor: torch.Tensor, order: MemoryOrder) -> Buffer:
    """Upload a CPU tensor; return a dense buffer with its dimensions permuted by `order`."""
    dense = tensor.detach().resolve_conj().resolve_neg().permute(order).contiguous()
    return transfer().put(dense)


def duplicate(buffer: Buffer, shape: tuple[int, ...], dtype: torch.dtype) -> Buffer:
    """Return a new buffer with the values of `buffer`, whose array has this shape and dtype."""
    return reshape(shape, shape, dtype)([buffer])[0]


@borrowing
def convert(source: torch.Tensor, tensor: torch.Tensor) -> None:
    """Write another tensor's values into a device tensor, broadcast and cast."""
    if reachable():
        overwrite(tensor, seen_as(memory_of(allocated_cell(source)), source))
        return
    order = order_of(source)
    physical = tuple(source.shape[d] for d in order)
    wanted = order_of(tensor)
    program = converter(physical, order, source.dtype, tuple(tensor.shape), wanted, tensor.dtype)
    write(tensor, program([read(source, order)])[0], wanted)


def _conjugate_or_negate(tensor: torch.Tensor, buffer: Buffer, order: MemoryOrder) -> Buffer:
    """Return a lazy view's values from those in its memory, or these from its values: each inverts itself."""
    physical = tuple(tensor.shape[d] for d in order)
    return conjugator(physical, tensor.dtype, tensor.is_conj(), tensor.is_neg())([buffer])[0]


def allocated_cell(tensor: torch.Tensor) -> Cell:
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
