"""Counting into bins: histc, histogram, histogramdd."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
import torch
from jax import Array

from ..table import kernel
from .selection import searchsorted

aten = torch.ops.aten


@kernel(aten.histc.default)
def histc(self: Array, bins: int = 100, min: float = 0, max: float = 0) -> Array:
    """Count the values in `bins` equal bins over [min, max], both ends included; values outside are left out.

    With min == max the bounds are the smallest and largest value, widened by one if they are equal too. Source: ATen
    `histc` (aten/src/ATen/native/cpu/HistogramKernel.cpp).
    """
    values = self.reshape(-1)
    wide = values if values.dtype == jnp.float64 else values.astype(jnp.float32)
    low, high = jnp.asarray(min, wide.dtype), jnp.asarray(max, wide.dtype)
    if min == max and wide.size:
        low, high = wide.min(), wide.max()
    low, high = jnp.where(low == high, low - 1, low), jnp.where(low == high, high + 1, high)
    inside = (wide >= low) & (wide <= high)
    place = jnp.floor((wide - low) * (bins / (high - low)))
    # The last bin includes its upper end; a value outside gets a bin past the last, which the scatter drops.
    place = jnp.where(inside, jnp.minimum(place, bins - 1), bins).astype(jnp.int32)
    return jnp.zeros((bins,), wide.dtype).at[place].add(1, mode="drop")


def _bounds(points: Array, dim: int, range: Sequence[float] | None) -> tuple[Array, Array]:
    """Return the lowest and highest edge of one dimension, from `range` or the data; equal ones are moved apart."""
    if range is not None:
        low, high = (jnp.asarray(bound, points.dtype) for bound in range[2 * dim : 2 * dim + 2])
    elif points.shape[0] == 0:
        low, high = jnp.zeros((), points.dtype), jnp.ones((), points.dtype)
    else:
        low, high = jnp.min(points[:, dim]), jnp.max(points[:, dim])
    same = low == high
    return jnp.where(same, low - 0.5, low), jnp.where(same, high + 0.5, high)


def _edges(points: Array, dim: int, bins: int, range: Sequence[float] | None) -> Array:
    low, high = _bounds(points, dim, range)
    place = jnp.arange(bins + 1)
    step = (high - low) / bins
    # From either end to the middle, as torch.linspace does.
    return jnp.where(place < (bins + 1) // 2, low + place * step, high - (bins - place) * step).astype(points.dtype)


def _counts(points: Array, edges: Sequence[Array], weight: Array | None, density: bool) -> Array:
    """Sum the points' weights in each cell of a grid; points outside are left out.

    points: [count, rank]; edges: a vector for each dimension. The last bin of each dimension includes its upper edge.
    Source: ATen `histogramdd` (aten/src/ATen/native/cpu/HistogramKernel.cpp).
    """
    shape = tuple(each.shape[0] - 1 for each in edges)
    inside = jnp.ones(points.shape[:1], jnp.bool_)
    cell = jnp.zeros(points.shape[:1], jnp.int32)
    for dim, (each, bins) in enumerate(zip(edges, shape, strict=True)):
        values = points[:, dim]
        inside &= (values >= each[0]) & (values <= each[-1])
        place = jnp.minimum(searchsorted(each, values, right=True) - 1, bins - 1)
        cell = cell * bins + place
    # A point outside gets a cell past the last, which the scatter drops.
    cell = jnp.where(inside, cell, math.prod(shape))
    added = jnp.ones(points.shape[:1], points.dtype) if weight is None else weight.reshape(-1).astype(points.dtype)
    counts = jnp.zeros((math.prod(shape),), points.dtype).at[cell].add(added, mode="drop").reshape(shape)
    if not density:
        return counts
    counts = counts / jnp.sum(counts)
    for dim, each in enumerate(edges):
        counts = counts / jnp.diff(each).reshape([-1 if d == dim else 1 for d, _ in enumerate(shape)])
    return counts


@kernel(aten.histogram.bin_ct)
def histogram(
    self: Array,
    bins: int = 100,
    *,
    range: Sequence[float] | None = None,
    weight: Array | None = None,
    density: bool = False,
) -> tuple[Array, Array]:
    """Count values, or sum their weights, in equal bins; also return the bins' edges.

    Without `range` the bounds are the smallest and largest value. `density` divides by the total and the bins' widths.
    """
    points = self.reshape(-1, 1)
    edges = _edges(points, 0, bins, range)
    return _counts(points, [edges], weight, density), edges


@kernel(aten.histogram.bins_tensor)
def histogram_of_edges(
    self: Array, bins: Array, *, weight: Array | None = None, density: bool = False
) -> tuple[Array, Array]:
    """Count values, or sum their weights, in bins with the given edges; also return those edges."""
    return _counts(self.reshape(-1, 1), [bins], weight, density), bins


@kernel(aten._histogramdd_bin_edges.default)
def histogramdd_bin_edges(
    self: Array,
    bins: Sequence[int],
    *,
    range: Sequence[float] | None = None,
    weight: Array | None = None,
    density: bool = False,
) -> list[Array]:
    """Return the edges of equal bins in each dimension of points, which are the rows of `self`."""
    points = self.reshape(-1, self.shape[-1])
    return [_edges(points, dim, each, range) for dim, each in enumerate(bins)]


@kernel(aten._histogramdd_from_bin_cts.default)
def histogramdd_from_bin_cts(
    self: Array,
    bins: Sequence[int],
    *,
    range: Sequence[float] | None = None,
    weight: Array | None = None,
    density: bool = False,
) -> Array:
    """Count points, or sum their weights, in a grid of equal bins."""
    points = self.reshape(-1, self.shape[-1])
    edges = [_edges(points, dim, each, range) for dim, each in enumerate(bins)]
    return _counts(points, edges, weight, density)


@kernel(aten._histogramdd_from_bin_tensors.default)
def histogramdd_from_bin_tensors(
    self: Array, bins: Sequence[Array], *, weight: Array | None = None, density: bool = False
) -> Array:
    """Count points, or sum their weights, in a grid with the given edges."""
    return _counts(self.reshape(-1, self.shape[-1]), bins, weight, density)
