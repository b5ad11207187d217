"""Values on a quantised grid, as NVIDIA's Model Optimizer writes it into models for TensorRT."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from ..table import foreign_kernel
from .casts import cast_to
from .dtypes import wide

# Model Optimizer takes ranges up to here for zero.
_SMALLEST_RANGE = 2.0**-24
# What stands for the unit of scales, and for a block's scale, where they are next to nothing.
_SMALLEST_UNIT = 1e-12
_SMALLEST_SCALE = 1e-5


@foreign_kernel("tensorrt::quantize_op")
def quantize_op(
    input: Array, amax: Array, num_bits: int, exponent_bits: int, unsigned: bool, narrow_range: bool
) -> Array:
    """Round values to a grid of integers, or of float8 e4m3, that ends at `amax`; the result has the values' dtype.

    amax: one number, or sizes of 1 but along a channel. exponent_bits: 0 for integers, 4 for float8. unsigned,
    narrow_range: the integers begin at 0, or at -amax. Raises NotImplementedError for other floats.
    Source: `tensorrt::quantize_op` in modelopt/torch/quantization/tensor_quant.py.
    """
    value, most = wide(input), wide(amax)
    empty = most <= _SMALLEST_RANGE
    if exponent_bits == 0:
        last = 2.0 ** (num_bits - 1 + unsigned) - 1
        first = 0.0 if unsigned else -last - (not narrow_range)
        scale = last / most
        result = jnp.where(empty, 0, jnp.clip(jnp.round(value * scale), first, last) / scale)
    elif (num_bits, exponent_bits) == (8, 4):
        last = float(jnp.finfo(jnp.float8_e4m3fn).max)
        scale = last / jnp.where(empty, 1, most)
        held = jnp.clip(value * scale, -last, last)
        result = cast_to(held, jnp.dtype(jnp.float8_e4m3fn)).astype(jnp.float32) * (1 / scale)
    else:
        raise NotImplementedError(f"a grid of {num_bits} bits of which {exponent_bits} are exponents")
    return result.astype(input.dtype)


@foreign_kernel("tensorrt::dynamic_block_quantize_op")
def dynamic_block_quantize_op(
    input: Array,
    block_size: int,
    amax: Array | None,
    num_bits: int,
    exponent_bits: int,
    scale_num_bits: int,
    scale_exponent_bits: int,
) -> Array:
    """Round values to NVFP4: float4 e2m1 in blocks of the last dimension, each with a scale in float8 e4m3.

    amax: the largest value of all; its largest element counts. The result has the values' dtype. Raises
    NotImplementedError for other floats and scales, as MXFP4 and MXFP8 have them.
    Source: `fp4_fake_quant_kernel` in modelopt/torch/quantization/triton/fp4_kernel.py.
    """
    grid = num_bits, exponent_bits, scale_num_bits, scale_exponent_bits
    if grid != (4, 2, 8, 4) or amax is None:
        raise NotImplementedError(f"blocks of floats with {grid} bits, exponents, and those of scales: only NVFP4 is")
    last, most = 6.0, float(jnp.finfo(jnp.float8_e4m3fn).max)
    unit = jnp.max(wide(amax)) / (last * most)
    width = input.shape[-1]
    padded = jnp.pad(wide(input), [(0, 0)] * (input.ndim - 1) + [(0, -width % block_size)])
    blocks = padded.reshape(*padded.shape[:-1], -1, block_size)
    size = jnp.abs(blocks)
    scale = jnp.max(size, -1, keepdims=True) / (last * jnp.where(unit > 0, unit, _SMALLEST_UNIT))
    scale = cast_to(jnp.minimum(scale, most), jnp.dtype(jnp.float8_e4m3fn)).astype(jnp.float32) * unit
    scale = jnp.where(scale >= _SMALLEST_SCALE, scale, 1)
    size = size / scale
    step = jnp.where(size < 2, 0.5, jnp.where(size < 4, 1, 2))  # of e2m1: 0, 0.5, 1, 1.5, 2, 3, 4, 6
    held = jnp.minimum(jnp.round(size / step) * step, last) * scale
    return jnp.where(blocks >= 0, held, -held).reshape(padded.shape)[..., :width].astype(input.dtype)
