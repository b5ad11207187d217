"""Memory of the device that the host can reach, as XLA's CPU client has it: read and written without a program."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import torch

from tpu_dynamo_runtime import Buffer, release_dropped

from .cells import Cell
from .memory_programs import as_vector
from .operator_programs import device_client

aten = torch.ops.aten


P = ParamSpec("P")
R = TypeVar("R")


def borrowing(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that lets go of the buffers whose memory `function` looked at.

    Else the last of them would stay until the next call of jaxlib, neither freed nor donated meanwhile. What the host
    has no room for raises DeviceOutOfMemory.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except RuntimeError as error:
            device_client().raise_if_memory_is_full(error)
            raise
        finally:
            release_dropped()

    return call


def reachable() -> bool:
    """Return True where buffers of the device lie in the host's memory."""
    return device_client().platform == "cpu"


def memory_of(cell: Cell) -> torch.Tensor:
    """Return a CPU tensor over a cell's memory, of the cell's shape and dtype; nothing may be written to it."""
    return device_client().memory_of(cell.buffer)


def seen_as(memory: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Return a CPU tensor that views memory on the host as a tensor of the device views its storage."""
    view = as_vector(memory, tensor.dtype).as_strided(tensor.shape, tensor.stride(), int(tensor.storage_offset()))
    view = view.conj() if tensor.is_conj() else view
    return aten._neg_view(view) if tensor.is_neg() else view


def adopt(values: torch.Tensor, order: Sequence[int]) -> Buffer:
    """Return a buffer of the values of a CPU tensor, permuted by `order`; it may own the tensor's memory."""
    dense = values.resolve_conj().resolve_neg().permute(tuple(order)).contiguous()
    return device_client().put_shared(dense)


def copy_out(cell: Cell, tensor: torch.Tensor, order: Sequence[int]) -> Buffer:
    """Return a new buffer of the values of a tensor with this memory, permuted by `order`."""
    values = seen_as(memory_of(cell), tensor).permute(tuple(order))
    return adopt(values.clone(memory_format=torch.contiguous_format), range(values.ndim))


def copy_in(cell: Cell, tensor: torch.Tensor, values: torch.Tensor) -> Cell:
    """Return memory like a cell's with the values of a CPU tensor, cast and broadcast, where `tensor` views it.

    The cell's own stays as it is, since others may hold its buffer.
    """
    memory = memory_of(cell).clone()
    seen_as(memory, tensor).copy_(values)
    return Cell(adopt(memory, range(memory.ndim)), cell.shape, cell.dtype)


def in_order(buffer: Buffer, order: Sequence[int]) -> torch.Tensor:
    """Return a CPU tensor over a buffer whose dimensions are permuted by `order`; nothing may be written to it."""
    return device_client().memory_of(buffer).permute([order.index(d) for d in range(len(order))])
