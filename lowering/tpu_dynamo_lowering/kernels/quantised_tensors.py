"""Integers of PyTorch's quantised tensors, and the values that these stand for."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import torch
from jax import Array

from .. import quantised_tensors
from ..table import foreign_kernel
from .casts import cast


def _one(value: Any, dtype: Any) -> Array:
    return jnp.asarray(value, dtype).reshape(())


@foreign_kernel("tpu_dynamo_lowering::quantize")
def quantize(self: Array, scale: Any, zero_point: Any, dtype: torch.dtype) -> Array:
    """Round float32 values to the grid of a scale and a zero point, and clamp them to the dtype; nan is its largest.

    scale, zero_point: numbers, or arrays of one element. In qint32 nan is the smallest. Raises NotImplementedError for
    a zero point that the dtype does not have.
    Source: `Quantize` of fbgemm's QuantUtils.h, which adds the zero point before it rounds.
    """
    ends = torch.iinfo(quantised_tensors.INTEGERS[dtype])
    if isinstance(zero_point, int) and not ends.min <= zero_point <= ends.max:
        raise NotImplementedError(f"the zero point {zero_point} is outside of {dtype}; eager PyTorch refuses it too")
    place = jnp.round(self * (1 / _one(scale, jnp.float32)) + _one(zero_point, jnp.float32))
    if dtype == torch.qint32:
        # float32 has no 2^31 - 1; the conversion is that of x86, which makes the smallest of what is out of range.
        return jnp.where(place >= 2.0**31, ends.max, cast(place, torch.int32))
    place = jnp.clip(place, ends.min, ends.max)
    return jnp.where(place == place, place, ends.max).astype(jnp.int8 if ends.min else jnp.uint8)


@foreign_kernel("tpu_dynamo_lowering::dequantize")
def dequantize(self: Array, scale: Any, zero_point: Any) -> Array:
    """Return the values, float32, of integers on the grid of a scale and a zero point.

    scale, zero_point: numbers, or arrays of one element. Differences are of int32 and wrap around, as in eager PyTorch.
    """
    return (self.astype(jnp.int32) - _one(zero_point, jnp.int32)).astype(jnp.float32) * _one(scale, jnp.float32)
