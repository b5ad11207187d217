"""Order statistics and searches: k-th values, medians, modes, places in sorted sequences."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from .elementwise import promoted
from .sorting import sort

aten = torch.ops.aten


def _at_place(values: Array, index: Array, place: Array, dim: int, keepdim: bool) -> tuple[Array, Array]:
    """Return the sorted values and their positions at one place along `dim`, where `place` has size 1."""
    found = jnp.take_along_axis(values, place, axis=dim), jnp.take_along_axis(index, place, axis=dim)
    return found if keepdim else (jnp.squeeze(found[0], dim), jnp.squeeze(found[1], dim))


@kernel(aten.kthvalue.default)
def kthvalue(self: Array, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Array, Array]:
    """Return the k-th smallest value along a dimension and its position; nan counts as the largest."""
    if self.ndim == 0:
        return self, jnp.zeros((), jnp.int64)
    values, index = sort(self, dim)
    values, index = (lax.index_in_dim(found, k - 1, axis=dim % self.ndim) for found in (values, index))
    return (values, index) if keepdim else (jnp.squeeze(values, dim), jnp.squeeze(index, dim))


def _is_nan(value: Array) -> Array:
    return jnp.isnan(value) if jnp.issubdtype(value.dtype, jnp.inexact) else jnp.zeros(value.shape, jnp.bool_)


def _median(value: Array, dim: int, keepdim: bool, skip_nan: bool) -> tuple[Array, Array]:
    if value.ndim == 0:
        return value, jnp.zeros((), jnp.int64)
    values, index = sort(value, dim)
    extent = value.shape[dim]
    real = extent - jnp.sum(_is_nan(value), axis=dim, keepdims=True, dtype=jnp.int64)
    middle = jnp.maximum(real - 1, 0) // 2
    # nan sorts last, so the first nan follows the numbers.
    place = middle if skip_nan else jnp.where(real < extent, real, middle)
    return _at_place(values, index, place, dim, keepdim)


def _median_of_all(value: Array, skip_nan: bool) -> Array:
    if value.size == 0:
        return jnp.full((), jnp.nan if jnp.issubdtype(value.dtype, jnp.inexact) else 0, value.dtype)
    return _median(value.reshape(-1), 0, False, skip_nan)[0]


@kernel(aten.median.default)
def median(self: Array) -> Array:
    """Return the lower median of all values; nan if there is one."""
    return _median_of_all(self, skip_nan=False)


@kernel(aten.nanmedian.default)
def nanmedian(self: Array) -> Array:
    """Return the lower median of all values that are not nan."""
    return _median_of_all(self, skip_nan=True)


@kernel(aten.median.dim)
def median_dim(self: Array, dim: int, keepdim: bool = False) -> tuple[Array, Array]:
    """Return the lower median along a dimension and its position; nan, at its first position, if there is one."""
    return _median(self, dim, keepdim, skip_nan=False)


@kernel(aten.nanmedian.dim)
def nanmedian_dim(self: Array, dim: int, keepdim: bool = False) -> tuple[Array, Array]:
    """Return the lower median along a dimension of the values that are not nan, and its position."""
    return _median(self, dim, keepdim, skip_nan=True)


@kernel(aten.mode.default)
def mode(self: Array, dim: int = -1, keepdim: bool = False) -> tuple[Array, Array]:
    """Return the most frequent value along a dimension, the smallest of several, and its last position.

    Each nan is a value of its own.
    """
    if self.ndim == 0:
        return self, jnp.zeros((), jnp.int64)
    dim %= self.ndim
    values, index = sort(self, dim)
    place = lax.broadcasted_iota(jnp.int32, values.shape, dim)
    before = jnp.roll(values, 1, axis=dim)
    begins = (values != before) | (place == 0)
    length = place - lax.cummax(jnp.where(begins, place, 0), axis=dim)
    return _at_place(values, index, jnp.argmax(length, axis=dim, keepdims=True), dim, keepdim)


def _search(sequence: Array, values: Array, right: bool, sorter: Array | None) -> Array:
    """Find each value's place in the last dimension of `sequence`, by bisection; nan belongs at the end."""
    extent = sequence.shape[-1]
    low = jnp.zeros(values.shape, jnp.int32)
    high = jnp.full(values.shape, extent, jnp.int32)
    if sequence.ndim == 1:
        sequence = jnp.broadcast_to(sequence, (*(1,) * (values.ndim - 1), extent))
        sorter = None if sorter is None else jnp.broadcast_to(sorter, sequence.shape)
    for _ in range(extent.bit_length()):
        middle = (low + high) // 2
        probe = jnp.minimum(middle, extent - 1)
        if sorter is not None:
            probe = jnp.take_along_axis(sorter, probe, axis=-1)
        there = jnp.take_along_axis(sequence, probe, axis=-1)
        after = ~(there > values if right else there >= values) & (low < high)
        low = jnp.where(after, middle + 1, low)
        high = jnp.where(after, high, middle)
    return low


@kernel(aten.searchsorted.Tensor, aten.searchsorted.Scalar)
def searchsorted(
    sorted_sequence: Array,
    self: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Array | None = None,
) -> Array:
    """Find the place to insert each value in a sorted sequence, before its equals or, if `right`, after.

    sorted_sequence: a vector, or rows for the rows of `self`. Source: ATen `searchsorted`.
    """
    sequence, values = promoted(sorted_sequence, self)
    after = right or side == "right"
    if values.ndim == 0:
        return _search(sequence, values[None], after, sorter)[0]
    return _search(sequence, values, after, sorter)


@kernel(aten.bucketize.Tensor, aten.bucketize.Scalar)
def bucketize(self: Any, boundaries: Array, *, out_int32: bool = False, right: bool = False) -> Array:
    """Return the number of boundaries below each value; with `right` an equal boundary counts too."""
    return searchsorted(boundaries, self, right=right)
