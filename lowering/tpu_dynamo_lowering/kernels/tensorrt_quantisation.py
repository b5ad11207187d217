"""Values on a quantised grid, as NVIDIA's Model Optimizer writes it into models for TensorRT."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from ..table import foreign_kernel
from .casts import cast_to
from .dtypes import wide

# Model Optimizer takes ranges up to here for zero.
_SMALLEST_RANGE = 2.0**-24


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
