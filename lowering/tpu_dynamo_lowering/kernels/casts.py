"""Casts between dtypes, and copies that may cast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from jax import Array, lax

from ..table import kernel
from .dtypes import checked_number, jax_dtype

aten = torch.ops.aten
prims = torch.ops.prims


def cast(value: Array, dtype: torch.dtype) -> Array:
    """Cast values to a dtype as eager PyTorch casts them on a CPU.

    A complex number cast to a real dtype keeps its real part; to bool, all but zero is True. Floats cast to integers
    lose their fraction; nan and numbers out of range give what x86's instructions give. float8 is rounded from float32.
    """
    return cast_to(value, jax_dtype(dtype))


def cast_to(value: Array, wanted: np.dtype[Any]) -> Array:
    """Cast values to one of JAX's dtypes, by the rules of `cast`."""
    if value.dtype == wanted:
        return value
    if jnp.iscomplexobj(value) and wanted != jnp.bool_ and not jnp.issubdtype(wanted, jnp.complexfloating):
        value = value.real
    if value.dtype in _FLOAT8:
        value = value.astype(jnp.float32)
    if wanted == jnp.bool_:
        return value != 0
    if wanted in _FLOAT8:
        return _to_float8(value.astype(jnp.float32), wanted)
    if jnp.issubdtype(value.dtype, jnp.floating):
        if jnp.issubdtype(wanted, jnp.integer):
            return _to_integer(value, wanted)
        if wanted in (jnp.float16, jnp.bfloat16):
            value = value.astype(jnp.float32)  # rounds doubles twice, as c10::Half does
    return value.astype(wanted)


def rounded(value: Array, wanted: np.dtype[Any]) -> Array:
    """Round to half precision, where that is `wanted`, and return what was rounded in float32; else cast.

    For results between two operations, which eager PyTorch rounds: XLA leaves out a cast to half precision and back.
    """
    if wanted == jnp.bfloat16:
        return lax.reduce_precision(value.astype(jnp.float32), exponent_bits=8, mantissa_bits=7)
    return value.astype(wanted).astype(jnp.float32 if wanted == jnp.float16 else wanted)


def filled(shape: Sequence[int], value: Any, wanted: np.dtype[Any] | None) -> Array:
    """Return an array with one number everywhere; `wanted=None` lets JAX choose the dtype.

    Raises NotImplementedError for a number that an integer dtype cannot hold.
    """
    if wanted is not None and wanted in _FLOAT8:
        return cast_to(jnp.full(tuple(shape), value, jnp.float32), wanted)
    if wanted is not None and not isinstance(value, Array):
        value = checked_number(value, wanted)
    return jnp.full(tuple(shape), value, wanted)


_FLOAT8 = {
    np.dtype(dtype)
    for dtype in (
        jnp.float8_e4m3fn, jnp.float8_e4m3fnuz, jnp.float8_e5m2, jnp.float8_e5m2fnuz, jnp.float8_e8m0fnu,
    )
}  # fmt: skip


def _to_float8(value: Array, wanted: np.dtype[Any]) -> Array:
    if wanted == jnp.float8_e4m3fn:
        # Clips infinities too: the format has none.
        return jnp.clip(value, -448, 448).astype(wanted)
    return _to_power_of_two(value) if wanted == jnp.float8_e8m0fnu else value.astype(wanted)


def _to_power_of_two(value: Array) -> Array:
    """Round to a power of two without a sign; ties and subnormal numbers go up, zero becomes the smallest one.

    Source: `fp8e8m0fnu_from_fp32_value` in c10/util/Float8_e8m0fnu.h. Computed on the bits: XLA's conversion makes nan
    of zero, and on a CPU takes subnormal numbers for zero.
    """
    bits = lax.bitcast_convert_type(value, jnp.uint32)
    exponent, fraction = (bits >> 23) & 0xFF, bits & 0x7FFFFF
    half = 0x400000
    up = (exponent < 0xFF) & jnp.where(exponent > 0, fraction >= half, fraction > half)
    return lax.bitcast_convert_type((exponent + up).astype(jnp.uint8), jnp.float8_e8m0fnu)


def _to_integer(value: Array, wanted: np.dtype[Any]) -> Array:
    """Cast floats to integers as x86's cvttsd2si does, to 64 bits or to 32 where those are enough, then wrap.

    nan and numbers out of range become the smallest integer of that width.
    """
    wide = wanted in (jnp.int64, jnp.uint32, jnp.uint64) or (wanted == jnp.uint8 and value.dtype == jnp.float64)
    least = jnp.iinfo(jnp.int64 if wide else jnp.int32)
    if value.dtype == jnp.float16:
        value = value.astype(jnp.float32)
    limit = -float(least.min)
    inside = (value >= -limit) & (value < limit)
    whole = jnp.where(inside, value.astype(least.dtype), least.min).astype(wanted)
    if wanted != jnp.uint64:
        return whole
    above = jnp.where(value < 2.0 * limit, value.astype(wanted), 0)
    return jnp.where(value >= limit, above.astype(wanted), whole)


@kernel(prims.convert_element_type.default)
def convert_element_type(a: Array, dtype: torch.dtype) -> Array:
    """Cast to another dtype: one convert."""
    return cast(a, dtype)


@kernel(aten._to_copy.default)
def to_copy(
    self: Array,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool | None = None,
    non_blocking: bool = False,
    memory_format: Any = None,
) -> Array:
    """Cast to another dtype; devices, layouts and memory formats have no meaning inside a program."""
    return self if dtype is None else cast(self, dtype)


@kernel(aten.copy.default)
def copy(self: Array, src: Array, non_blocking: bool = False) -> Array:
    """Return `src` broadcast to the shape, and cast to the dtype, of `self`."""
    return cast_to(jnp.broadcast_to(src, self.shape), self.dtype)
