"""Counting into bins: histc, bincount, searchsorted, bucketize."""

from __future__ import annotations

import jax.numpy as jnp
import torch
from jax import Array

from ..table import kernel

aten = torch.ops.aten


@kernel(aten.histc.default)
def histc(self: Array, bins: int = 100, min: float = 0, max: float = 0) -> Array:
    """Counts of the values in `bins` equal bins over [min, max], both ends included; values outside are left out.

    With min == max the bounds are the smallest and largest value, widened by one if they are equal too.
    Source: ATen `histc` (aten/src/ATen/native/cpu/HistogramKernel.cpp).
    """
    values = self.reshape(-1)
    wide = values if values.dtype == jnp.float64 else values.astype(jnp.float32)
    low, high = jnp.asarray(min, wide.dtype), jnp.asarray(max, wide.dtype)
    if min == max and wide.size:
        low, high = wide.min(), wide.max()
    low, high = jnp.where(low == high, low - 1, low), jnp.where(low == high, high + 1, high)
    inside = (wide >= low) & (wide <= high)
    place = jnp.floor((wide - low) * (bins / (high - low)))
    # The last bin holds its upper end; a value outside goes past the bins, where scatter drops it.
    place = jnp.where(inside, jnp.minimum(place, bins - 1), bins).astype(jnp.int32)
    return jnp.zeros((bins,), wide.dtype).at[place].add(1, mode="drop")
