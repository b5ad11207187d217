"""Products of 8-bit integers with zero points, summed in int32."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
import torch
from jax import Array, lax

from .. import integer_products  # noqa: F401  which defines the operators
from ..table import foreign_kernel, kernel
from ..target import ANY, Target
from .call import static
from .convolution import convolved, suits_reordering

# So many products of int8 have a sum that float32 holds exactly.
_EXACT_TERMS = 2**24 // 2**14


def _signed(value: Array, zero_point: Array | None) -> tuple[Array, Array | None]:
    """Return int8 and its zero point, int32; of uint8 both are less by 128. XLA multiplies integers of one sign."""
    if value.dtype != jnp.uint8:
        return value, zero_point
    shift = jnp.int32(-128)
    return lax.bitcast_convert_type(
        value ^ jnp.uint8(128), jnp.int8
    ), shift if zero_point is None else zero_point + shift


def _summed(value: Array, axes: Sequence[int]) -> Array:
    return jnp.sum(value, axis=tuple(axes), dtype=jnp.int32, keepdims=True)


@foreign_kernel("tpu_dynamo_lowering::integer_einsum")
def integer_einsum(
    pattern: str, left: Array, right: Array, left_zero_point: Array | None, right_zero_point: Array | None
) -> Array:
    """Multiply integers less their zero points by a pattern of einsum: one dot_general, and sums for zero points."""
    left, first = _signed(left, left_zero_point)
    right, second = _signed(right, right_zero_point)
    total = jnp.einsum(pattern, left, right, preferred_element_type=jnp.int32)
    operands, result = pattern.split("->")
    dims = operands.split(",")
    axes = [[axis for axis, letter in enumerate(each) if letter not in result] for each in dims]

    def spread(value: Array, side: int) -> Array:
        """Move the dimensions of one operand to those of the result; the ones summed over have size 1."""
        if value.ndim == 0 or value.size == 1:
            return value.reshape(())
        kept = "".join(letter for letter in dims[side] if letter in result)
        value = jnp.squeeze(value, axes[side])
        order = sorted(range(len(kept)), key=lambda dim: result.index(kept[dim]))
        sizes = dict(zip(kept, value.shape, strict=True))
        return value.transpose(order).reshape([sizes.get(letter, 1) for letter in result])

    if first is not None:
        total -= spread(first, 0) * spread(_summed(right, axes[1]), 1)
    if second is not None:
        total -= spread(second, 1) * spread(_summed(left, axes[0]), 0)
    if first is not None and second is not None:
        terms = math.prod(right.shape[axis] for axis in axes[1])
        total += terms * spread(first, 0) * spread(second, 1)
    return total


@kernel(torch.ops.aten._int_mm.default)
def int_mm(self: Array, mat2: Array) -> Array:
    """Multiply two matrices of int8, or of uint8 as torchao takes them on some CPUs, with an int32 result."""
    return integer_einsum("mk,kn->mn", self, mat2, None, None)


def _convolved_exactly(
    input: Array, weight: Array, window: Sequence[Sequence[int]], groups: int, target: Target
) -> Array:
    """Convolve int8 with sums in int32. On a CPU by float32, of as many channels as it is exact for.

    window: stride, padding and dilation. XLA's CPU client takes a hundred times as long for a convolution of integers.
    """

    def call(input: Array, weight: Array) -> Array:
        dtype = jnp.int32 if input.dtype == jnp.int8 else None
        stride, padding, dilation = window
        none = (0,) * (input.ndim - 2)
        reordered = target.platform == "tpu" and suits_reordering(input, weight, groups)
        return convolved(input, weight, stride, padding, dilation, False, none, groups, dtype, reordered)

    area = math.prod(weight.shape[2:])
    channels = _EXACT_TERMS // area
    if target.platform != "cpu" or channels == 0 or (groups > 1 and weight.shape[1] > channels):
        return call(input, weight)
    total = None
    for begin in range(0, weight.shape[1], channels):
        part = slice(begin, begin + channels) if groups == 1 else slice(None)
        found = call(input[:, part].astype(jnp.float32), weight[:, part].astype(jnp.float32)).astype(jnp.int32)
        total = found if total is None else total + found
    assert total is not None
    return total


def _window_sums(
    input: Array, kernel: Sequence[int], window: tuple[Sequence[int], Sequence[int], Sequence[int]], groups: int
) -> Array:
    """Return the sums of the integers under each position of a kernel, [batch, groups, *spatial], int32.

    A convolution with ones would fill no more of a TPU's matrix unit than one with a weight, and cost as much.
    """
    stride, padding, dilation = window
    batch, channels, *spatial = input.shape
    sums = jnp.sum(input.reshape(batch, groups, channels // groups, *spatial), axis=2, dtype=jnp.int32)
    pads = [(0, 0), (0, 0), *((p, p) for p in padding)]
    return lax.reduce_window(
        sums, jnp.int32(0), lax.add, (1, 1, *kernel), (1, 1, *stride), pads, window_dilation=(1, 1, *dilation)
    )


@foreign_kernel("tpu_dynamo_lowering::integer_convolution")
def integer_convolution(
    input: Array,
    weight: Array,
    input_zero_point: Array | None,
    weight_zero_point: Array | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    *,
    compiled_for: Target = ANY,
) -> Array:
    """Convolve integers less their zero points: one convolution of int8, and sums for zero points.

    input_zero_point: one element. weight_zero_point: one element, or one for each channel of the result.
    """
    rank = input.ndim - 2
    input, first = _signed(input, input_zero_point)
    weight, second = _signed(weight, weight_zero_point)
    padding = static(padding, rank)
    if first is not None and any(padding):
        # Padding stands for zero, and so is the input's zero point.
        around = [(0, 0, 0), (0, 0, 0), *((p, p, 0) for p in padding)]
        input, padding = lax.pad(input, first.reshape(()).astype(jnp.int8), around), (0,) * rank
    window = static(stride, rank), padding, static(dilation, rank)
    total = _convolved_exactly(input, weight, window, groups, compiled_for)
    channel = (1, -1, *(1,) * rank)
    if first is not None:
        total -= first.reshape(()) * _summed(weight, range(1, rank + 2)).reshape(channel)
    if second is not None:
        sums = _window_sums(input, weight.shape[2:], window, groups)
        shift = second.reshape(channel) if second.size > 1 else second.reshape(())
        total -= shift * jnp.repeat(sums, weight.shape[0] // groups, axis=1)
        if first is not None:
            total += math.prod(weight.shape[1:]) * first.reshape(()) * shift
    return total
