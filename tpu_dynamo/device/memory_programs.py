"""Programs that read and write memory which the host cannot reach: views, casts, other memory orders."""

from __future__ import annotations

from functools import lru_cache

import torch

from tpu_dynamo_runtime import Buffer

from ._torch_compat import contiguous_stride
from .operator_programs import DeviceProgram, compile_program, transfer

aten = torch.ops.aten

MemoryOrder = tuple[int, ...]
# Sizes, strides and dtype of a view; where it begins is an operand of its programs.
View = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]


def as_vector(memory: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return dense memory as a vector of another dtype."""
    flat = memory.reshape(-1)
    return flat if flat.dtype == dtype else flat.view(dtype)


# Views of one shape are one program, wherever they begin: an eager loop over rows, or over the thirds of a projection,
# compiles once, and so do the ranks of a job, whose shards lie at offsets of their own.


@lru_cache(maxsize=4096)
def number(value: int) -> Buffer:
    """Return a buffer with an int64, kept for the next call."""
    return transfer().put(torch.tensor(value, device="cpu"))


def _extent(size: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Return the number of elements from a view's first to its last; 0 for an empty one."""
    return 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if 0 not in size else 0


@lru_cache(maxsize=4096)
def reader(base: tuple[int, ...], dtype: torch.dtype, view: View, order: MemoryOrder) -> DeviceProgram:
    """Return the program from memory and the offset of a view in it to the view's values, permuted by `order`."""
    size, stride, wanted = view

    def gather(memory: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        part = torch.ops.tpu_dynamo.slice_at(as_vector(memory, wanted), 0, offset, _extent(size, stride))
        return aten.as_strided_copy(part, size, stride, 0).permute(order).contiguous()

    return compile_program(gather, [(base, contiguous_stride(base), dtype), ((), (), torch.int64)])


@lru_cache(maxsize=4096)
def writer(base: tuple[int, ...], dtype: torch.dtype, view: View, order: MemoryOrder) -> DeviceProgram:
    """Return the program from memory, values permuted by `order` and an offset to memory with the values in a view."""
    size, stride, wanted = view
    physical = tuple(size[d] for d in order)

    def scatter(memory: torch.Tensor, values: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        values = values.permute([order.index(d) for d in range(len(order))])
        whole = as_vector(memory, wanted)
        part = torch.ops.tpu_dynamo.slice_at(whole, 0, offset, _extent(size, stride))
        part = aten.as_strided_scatter(part, values, size, stride, 0)
        return as_vector(torch.ops.tpu_dynamo.put_at(whole, part, 0, offset), dtype).reshape(base)

    specs = [
        (base, contiguous_stride(base), dtype),
        (physical, contiguous_stride(physical), wanted),
        ((), (), torch.int64),
    ]
    return compile_program(scatter, specs)


@lru_cache(maxsize=4096)
def converter(
    physical: tuple[int, ...],
    order: MemoryOrder,
    dtype: torch.dtype,
    size: tuple[int, ...],
    wanted: MemoryOrder,
    wanted_dtype: torch.dtype,
) -> DeviceProgram:
    """Return the program that casts values of this physical shape and order, and broadcasts them to `size`."""

    def converted(values: torch.Tensor) -> torch.Tensor:
        values = values.permute([order.index(d) for d in range(len(order))])
        return values.to(wanted_dtype).expand(size).permute(wanted).clone(memory_format=torch.contiguous_format)

    return compile_program(converted, [(physical, contiguous_stride(physical), dtype)])


@lru_cache(maxsize=4096)
def conjugator(physical: tuple[int, ...], dtype: torch.dtype, conjugated: bool, negated: bool) -> DeviceProgram:
    """Return the program that conjugates values, or negates them, or both."""

    def conjugate_or_negate(values: torch.Tensor) -> torch.Tensor:
        values = torch.conj_physical(values) if conjugated else values
        return torch.neg(values) if negated else values

    return compile_program(conjugate_or_negate, [(physical, contiguous_stride(physical), dtype)])


@lru_cache(maxsize=4096)
def reshape(base: tuple[int, ...], shape: tuple[int, ...], dtype: torch.dtype) -> DeviceProgram:
    """Return the program that copies row-major memory into another shape of as many elements."""
    return compile_program(lambda memory: memory.reshape(shape).clone(), [(base, contiguous_stride(base), dtype)])


@lru_cache(maxsize=4096)
def transposer(physical: tuple[int, ...], order: MemoryOrder, wanted: MemoryOrder, dtype: torch.dtype) -> DeviceProgram:
    """Return the program from values permuted by `order` to those permuted by `wanted`."""

    def transpose(values: torch.Tensor) -> torch.Tensor:
        return values.permute([order.index(d) for d in wanted]).contiguous()

    return compile_program(transpose, [(physical, contiguous_stride(physical), dtype)])
