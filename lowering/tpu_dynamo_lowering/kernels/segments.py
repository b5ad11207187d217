"""Reductions over segments: runs of neighbouring places, given by their lengths or by where they begin and end."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import torch
from jax import Array

from ..table import kernel

aten = torch.ops.aten

_EMPTY = {"sum": 0.0, "mean": float("nan"), "prod": 1.0, "max": -float("inf"), "min": float("inf")}


def _boundaries(lengths: Array | None, offsets: Array | None, axis: int) -> tuple[Array, Array]:
    """Return where each segment begins and ends along the last dimension of `lengths` or `offsets`."""
    if offsets is not None:
        return jnp.take(offsets, jnp.arange(offsets.shape[axis] - 1), axis=axis), jnp.take(
            offsets, jnp.arange(1, offsets.shape[axis]), axis=axis
        )
    assert lengths is not None
    ends = jnp.cumsum(lengths, axis=axis)
    return ends - lengths, ends


def _reduce_row(data: Array, begins: Array, ends: Array, reduce: str, initial: Any) -> Array:
    """Reduce [places, ...] to [segments, ...] by a mask of [segments, places], which gives empty segments too."""
    places = jnp.arange(data.shape[0])
    inside = (places >= begins[:, None]) & (places < ends[:, None])
    inside = inside.reshape(inside.shape + (1,) * (data.ndim - 1))
    neutral = {"mean": 0.0}.get(reduce, _EMPTY[reduce])
    chosen = jnp.where(inside, data[None], jnp.asarray(neutral, data.dtype))
    start = None if initial is None else jnp.asarray(initial, data.dtype)
    if reduce in ("sum", "mean"):
        total = jnp.sum(chosen, axis=1)
        total = total if start is None else total + start
        if reduce == "sum":
            return total
        count = jnp.sum(inside, axis=1).astype(data.dtype)
        empty = jnp.asarray(jnp.nan, data.dtype) if start is None else start
        return jnp.where(count > 0, total / jnp.maximum(count, 1), empty)
    if reduce == "prod":
        product = jnp.prod(chosen, axis=1)
        return product if start is None else product * start
    extreme = jnp.max(chosen, axis=1) if reduce == "max" else jnp.min(chosen, axis=1)
    if start is None:
        return extreme
    return jnp.maximum(extreme, start) if reduce == "max" else jnp.minimum(extreme, start)


@kernel(aten.segment_reduce.default)
def segment_reduce(
    data: Array,
    reduce: str,
    *,
    lengths: Array | None = None,
    indices: Array | None = None,
    offsets: Array | None = None,
    axis: int = 0,
    unsafe: bool = False,
    initial: Any = None,
) -> Array:
    """Reduce each segment along `axis` to its sum, mean, product, maximum or minimum, starting from `initial`.

    lengths or offsets: [..., segments] or [..., segments + 1], with segments of their own for each place of the
    dimensions before `axis`. Lengths need not add up to the dimension. Source: ATen `segment_reduce`.
    """
    begins, ends = _boundaries(lengths, offsets, axis)
    reduce = reduce.removeprefix("a")  # ATen takes "amax" and "amin" for "max" and "min"

    def row(data: Array, begins: Array, ends: Array) -> Array:
        return _reduce_row(data, begins, ends, reduce, initial)

    for _ in range(axis):
        row = jax.vmap(row)
    return row(data, begins, ends)
