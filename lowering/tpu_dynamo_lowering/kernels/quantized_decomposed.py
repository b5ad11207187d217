"""Quantising and dequantising as torch.ao and PT2E write it: by tensor, channel, token, and group of a channel."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import torch
from jax import Array

from ..table import foreign_kernel
from ..target import ANY, Target
from .casts import cast, rounded
from .dtypes import jax_dtype, wide
from .elementwise import promoted


def quantised(steps: Array, quant_min: Any, quant_max: Any, dtype: torch.dtype) -> Array:
    """Store steps of a grid, floats, in a dtype after clamping them to a range; nan becomes 0 in integers."""
    held = jnp.clip(steps, quant_min, quant_max)
    if dtype.is_floating_point or dtype.itemsize > 2:
        return cast(held, dtype)
    # What x86's conversion makes of nan, for which the general cast compares with both ends of the dtype.
    return jnp.where(held == held, held, 0).astype(jax_dtype(dtype))


def _without_double(scale: Array, compiled_for: Target) -> Array:
    """Return scales in float32 for a TPU, which has no float64; those that `choose_qparams` found lose nothing."""
    return scale.astype(jnp.float32) if compiled_for.platform == "tpu" and scale.dtype == jnp.float64 else scale


def _one(value: Any) -> Any:
    """Return a number as it is, or as an array without dimensions from an array of one element."""
    return value.reshape(()) if isinstance(value, Array) else value


@foreign_kernel("quantized_decomposed::quantize_per_tensor")
def quantize_per_tensor(
    input: Array, scale: Any, zero_point: Any, quant_min: Any, quant_max: Any, dtype: torch.dtype
) -> Array:
    """Round values to the grid of a scale and a zero point, and clamp them to a range.

    scale, zero_point, quant_min, quant_max: numbers, or arrays of one element, as the overload has them.
    """
    if not isinstance(scale, Array) and scale == 0:
        raise NotImplementedError("a grid with a scale of zero; eager PyTorch refuses it too")
    inverse = jnp.asarray(1 / _one(scale), jnp.float32)
    steps = jnp.round(wide(input) * inverse) + jnp.asarray(_one(zero_point), jnp.float32)
    return quantised(steps, _one(quant_min), _one(quant_max), dtype)


@foreign_kernel("quantized_decomposed::dequantize_per_tensor")
def dequantize_per_tensor(
    input: Array,
    scale: Any,
    zero_point: Any,
    quant_min: Any,
    quant_max: Any,
    dtype: torch.dtype,
    *,
    out_dtype: torch.dtype | None = None,
) -> Array:
    """Return the values, `out_dtype` or float32, that integers stand for on the grid of a scale and a zero point.

    scale, zero_point: numbers, or arrays of one element, as the overload has them.
    """
    result = jax_dtype(out_dtype or torch.float32)
    value = wide(cast(input, out_dtype or torch.float32))
    shifted = (value - jnp.asarray(_one(zero_point), value.dtype)).astype(result)
    return wide(shifted) * jnp.asarray(_one(scale), value.dtype)


def _along(values: Array, rank: int, axis: int) -> Array:
    """Return a vector of numbers, one for each channel, to be broadcast along an axis."""
    shape = [1] * rank
    shape[axis] = -1
    return values.reshape(shape)


@foreign_kernel("quantized_decomposed::quantize_per_channel")
def quantize_per_channel(
    input: Array,
    scales: Array,
    zero_points: Array,
    axis: int,
    quant_min: int,
    quant_max: int,
    dtype: torch.dtype,
    *,
    compiled_for: Target = ANY,
) -> Array:
    """Round values to the grid of their channel along `axis`, and clamp them to a range."""
    scales = _along(_without_double(scales, compiled_for), input.ndim, axis)
    value, inverse = promoted(wide(input), 1 / scales)
    steps, shift = promoted(jnp.round(value * inverse), _along(zero_points, input.ndim, axis))
    return quantised(steps + shift, quant_min, quant_max, dtype)


@foreign_kernel("quantized_decomposed::dequantize_per_channel")
def dequantize_per_channel(
    input: Array,
    scales: Array,
    zero_points: Array | None,
    axis: int,
    quant_min: int,
    quant_max: int,
    dtype: torch.dtype,
    *,
    out_dtype: torch.dtype | None = None,
    compiled_for: Target = ANY,
) -> Array:
    """Return the values, `out_dtype` or float32, that integers stand for on the grid of their channel along `axis`."""
    shift = None if zero_points is None else _along(zero_points, input.ndim, axis)
    scales = _along(_without_double(scales, compiled_for), input.ndim, axis)
    return dequantised(input, scales, shift, out_dtype or torch.float32)


def dequantised(value: Array, scales: Array, zero_points: Array | None, dtype: torch.dtype) -> Array:
    """Return (value - zero_points) * scales in a dtype, computed in PyTorch's promoted dtypes.

    Differences of small integers are computed in int32.
    """
    if zero_points is not None:
        value, zero_points = _promoted_integers(value, zero_points)
        value = value - zero_points
    promoted_dtype = promoted(value, scales)[0].dtype
    product = rounded(value, promoted_dtype) * wide(scales)
    if promoted_dtype != jax_dtype(dtype):
        product = rounded(product, promoted_dtype)
    return cast(product, dtype)


def _promoted_integers(value: Array, zero_points: Array) -> tuple[Array, Array]:
    small = value.dtype.itemsize <= 2
    first, second = promoted(value, zero_points)
    if first.dtype == jnp.int64 and small:
        # The same numbers: zero points of at most 16 bits, which exporters write as int64. XLA emulates that on a TPU.
        return value.astype(jnp.int32), zero_points.astype(jnp.int32)
    return first, second


@foreign_kernel("quantized_decomposed::quantize_per_token")
def quantize_per_token(
    input: Array,
    scales: Array,
    zero_points: Array,
    quant_min: int,
    quant_max: int,
    dtype: torch.dtype,
    *,
    compiled_for: Target = ANY,
) -> Array:
    """Round the rows of the last dimension, each to the grid of its own scale and zero point."""
    return _quantised_rows(input, scales, zero_points, quant_min, quant_max, dtype, compiled_for)


def _quantised_rows(
    rows: Array, scales: Array, zero_points: Array, quant_min: int, quant_max: int, dtype: torch.dtype, target: Target
) -> Array:
    """Round rows to grids by scales and zero points with a last dimension of one, after the shift."""
    scales = _without_double(scales, target)
    inverse = rounded(1 / wide(scales), scales.dtype)
    common = promoted(rows, scales)[0].dtype
    steps = rounded(wide(rows) * inverse, common)
    common = promoted(jnp.empty(rows.shape, common), zero_points)[0].dtype
    return quantised(jnp.round(rounded(steps + wide(zero_points), common)), quant_min, quant_max, dtype)


@foreign_kernel("quantized_decomposed::dequantize_per_token")
def dequantize_per_token(
    input: Array,
    scales: Array,
    zero_points: Array,
    quant_min: int,
    quant_max: int,
    dtype: torch.dtype,
    output_dtype: torch.dtype,
    *,
    compiled_for: Target = ANY,
) -> Array:
    """Return the values that integers stand for, each row of the last dimension by its own scale and zero point."""
    return dequantised(input, _without_double(scales, compiled_for), zero_points, output_dtype)


def _groups(value: Array, scales: Array, group_size: int) -> tuple[int, ...]:
    """Return the shape [groups, size] of a matrix's rows cut into groups; the only group of a row may be shorter."""
    width = value.shape[-1]
    size = width if group_size > width and scales.shape[-1] == 1 else group_size
    if value.ndim != 2 or size <= 1 or width % size:
        raise NotImplementedError(f"groups of {size} in a tensor {list(value.shape)}; eager PyTorch refuses it too")
    return (value.size // size, size)


@foreign_kernel("quantized_decomposed::quantize_per_channel_group")
def quantize_per_channel_group(
    input: Array,
    scales: Array,
    zero_points: Array,
    quant_min: int,
    quant_max: int,
    dtype: torch.dtype,
    group_size: int,
    *,
    compiled_for: Target = ANY,
) -> Array:
    """Round the groups of a matrix's rows, each to the grid of its own scale and zero point.

    input: [rows, columns]; scales, zero_points: [rows, columns / group_size].
    """
    rows, column = input.reshape(_groups(input, scales, group_size)), (-1, 1)
    parameters = scales.reshape(column), zero_points.reshape(column)
    return _quantised_rows(rows, *parameters, quant_min, quant_max, dtype, compiled_for).reshape(input.shape)


@foreign_kernel("quantized_decomposed::dequantize_per_channel_group")
def dequantize_per_channel_group(
    input: Array,
    scales: Array,
    zero_points: Array | None,
    quant_min: int,
    quant_max: int,
    dtype: torch.dtype,
    group_size: int,
    output_dtype: torch.dtype,
    *,
    compiled_for: Target = ANY,
) -> Array:
    """Return the values that integers stand for, each group of a matrix's rows by its own scale and zero point."""
    rows, column = input.reshape(_groups(input, scales, group_size)), (-1, 1)
    shift = None if zero_points is None else zero_points.reshape(column)
    values = dequantised(rows, _without_double(scales, compiled_for).reshape(column), shift, output_dtype)
    return values.reshape(input.shape)


@foreign_kernel("quantized_decomposed::convert_element_type")
def convert_element_type(input: Array, dtype: torch.dtype) -> Array:
    """Cast to another dtype, as an operator that exporters do not join with its neighbours."""
    return cast(input, dtype)
