"""Scatters along one dimension: scatter, scatter_add, scatter_reduce and index_reduce.

An index out of range, an error in eager PyTorch, writes nothing here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from .casts import cast_to
from .dtypes import checked_number
from .indexing import accumulator, narrowed

aten = torch.ops.aten

_COMBINE: dict[str, Callable[..., Array]] = {
    "set": lax.scatter,
    "sum": lax.scatter_add,
    "prod": lax.scatter_mul,
    "amax": lax.scatter_max,
    "amin": lax.scatter_min,
}

# Writes values into an array, combining them as one of _COMBINE.
Write = Callable[[Array, Array, str], Array]


def _element_writer(dim: int, index: Array, rank: int) -> Write:
    """Return the function that writes single values at `index` along `dim`: one scatter with batches.

    The values' other coordinates are those of the index. The values may be larger than the index; so may the array in
    any dimension, whose rest stays.
    """
    if rank == 0 or index.ndim == 0:  # scalars are vectors of one value
        return lambda into, values, how: _element_writer(0, index.reshape(-1), 1)(
            into.reshape(-1), values.reshape(-1), how
        ).reshape(into.shape)
    dim %= rank
    others = tuple(d for d in range(rank) if d != dim)
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=(),
        inserted_window_dims=(dim,),
        scatter_dims_to_operand_dims=(dim,),
        operand_batching_dims=others,
        scatter_indices_batching_dims=others,
    )

    def write(into: Array, values: Array, how: str) -> Array:
        if index.size == 0:
            return into
        part = tuple(slice(None) if d == dim else slice(0, extent) for d, extent in enumerate(index.shape))
        values = values[tuple(slice(0, extent) for extent in index.shape)]
        places = narrowed(index, into.shape[dim])[..., None]
        written = _COMBINE[how](into[part], places, values, numbers, mode="drop")
        return written if written.shape == into.shape else into.at[part].set(written)

    return write


def _slice_writer(dim: int, index: Array, rank: int) -> Write:
    """Return the function that writes whole slices at `index` of `dim`: one scatter."""
    names = {"set": "set", "sum": "add", "prod": "multiply", "amax": "max", "amin": "min"}

    def write(into: Array, values: Array, how: str) -> Array:
        if rank == 0:
            return _slice_writer(0, index.reshape(1), 1)(into.reshape(1), values.reshape(1), how).reshape(())
        place = (slice(None),) * (dim % rank) + (narrowed(index.reshape(-1), into.shape[dim]),)
        return getattr(into.at[place], names[how])(values, mode="drop")

    return write


def _extreme(dtype: Any, lowest: bool) -> Any:
    if jnp.issubdtype(dtype, jnp.floating):
        return -jnp.inf if lowest else jnp.inf
    return jnp.iinfo(dtype).min if lowest else jnp.iinfo(dtype).max


def _reduced(self: Array, write: Write, values: Array, how: str, include_self: bool) -> Array:
    """Combine the values written to each place, and its old value if `include_self`, by the reduction `how`.

    Half precision is summed and multiplied in float32. Booleans are small integers here, whose sum is their maximum and
    whose product is their minimum.
    """
    boolean = self.dtype == jnp.bool_
    dtype = jnp.dtype(jnp.int8) if boolean else accumulator(self.dtype)
    base, values = self.astype(dtype), values.astype(dtype)
    combine = "sum" if how == "mean" else how
    if boolean:
        combine = {"sum": "amax", "prod": "amin"}.get(combine, combine)
    if not include_self:
        neutral = {"sum": 0, "prod": 1, "amax": _extreme(dtype, True), "amin": _extreme(dtype, False)}[combine]
        base = write(base, jnp.full_like(values, neutral), "set")
    result = write(base, values, combine)
    if how == "mean":
        count = write(jnp.full(self.shape, int(include_self), dtype), jnp.ones_like(values), "sum")
        count = jnp.maximum(count, 1)
        result = jnp.floor_divide(result, count) if jnp.issubdtype(dtype, jnp.integer) else result / count
    return result


@kernel(aten.scatter.src)
def scatter(self: Array, dim: int, index: Array, src: Array) -> Array:
    """Write the values of `src` at the index along `dim`: one scatter.

    index: as many dimensions as `self`; `src` is at least as large. Which of several values for one place stays is
    unspecified. Source: ATen `scatter`.
    """
    return _element_writer(dim, index, self.ndim)(self, cast_to(src, self.dtype), "set")


@kernel(aten.scatter.value)
def scatter_value(self: Array, dim: int, index: Array, value: Any) -> Array:
    """Write one number at the index along `dim`: one scatter.

    Raises NotImplementedError for a number that an integer dtype cannot hold.
    """
    return scatter(self, dim, index, jnp.full(index.shape, checked_number(value, self.dtype)))


@kernel(aten.scatter.reduce)
def scatter_reduced(self: Array, dim: int, index: Array, src: Array, *, reduce: str) -> Array:
    """Add the values of `src` at the index along `dim`, or multiply by them: one scatter.

    reduce: "add" or "multiply". Source: ATen `scatter.reduce`.
    """
    how = {"add": "sum", "multiply": "prod"}[reduce]
    return _reduced(self, _element_writer(dim, index, self.ndim), src, how, include_self=True)


@kernel(aten.scatter.value_reduce)
def scatter_value_reduced(self: Array, dim: int, index: Array, value: Any, *, reduce: str) -> Array:
    """Add one number at the index along `dim`, or multiply by it: one scatter.

    reduce: "add" or "multiply". Raises NotImplementedError for a number that an integer dtype cannot hold.
    """
    return scatter_reduced(self, dim, index, jnp.full(index.shape, checked_number(value, self.dtype)), reduce=reduce)


@kernel(aten.scatter_add.default)
def scatter_add(self: Array, dim: int, index: Array, src: Array) -> Array:
    """Add the values of `src` at the index along `dim`: one scatter."""
    return _reduced(self, _element_writer(dim, index, self.ndim), src, "sum", include_self=True)


@kernel(aten.scatter_reduce.two)
def scatter_reduce(self: Array, dim: int, index: Array, src: Array, reduce: str, *, include_self: bool = True) -> Array:
    """Combine the values of `src` for each place that the index names along `dim`, and by default its old value.

    reduce: sum, prod, mean, amax or amin. Without `include_self` the old value of such a place does not count; places
    not named keep theirs. Source: ATen `scatter_reduce`.
    """
    return _reduced(self, _element_writer(dim, index, self.ndim), src, reduce, include_self)


@kernel(aten.index_add.default)
def index_add(self: Array, dim: int, index: Array, source: Array, *, alpha: Any = 1) -> Array:
    """Add the slices of `source`, times `alpha`, to those that a vector of indices names along `dim`: one scatter.

    The index, and with it the source of a vector, may be without dimensions. Source: ATen `index_add`.
    """
    values = source if isinstance(alpha, int) and alpha == 1 else source * jnp.asarray(alpha, source.dtype)
    return _reduced(self, _slice_writer(dim, index, self.ndim), values, "sum", include_self=True)


@kernel(aten.index_copy.default)
def index_copy(self: Array, dim: int, index: Array, source: Array) -> Array:
    """Write the slices of `source` to those that a vector of indices names along `dim`: one scatter.

    Which of several slices for one place stays is unspecified. Source: ATen `index_copy`.
    """
    return _slice_writer(dim, index, self.ndim)(self, source.astype(self.dtype), "set")


@kernel(aten.index_reduce.default)
def index_reduce(
    self: Array, dim: int, index: Array, source: Array, reduce: str, *, include_self: bool = True
) -> Array:
    """Combine the slices of `source` for each slice that indices name along `dim`, and by default the old one.

    index: a vector. reduce: prod, mean, amax or amin, as in scatter_reduce. Source: ATen `index_reduce`.
    """
    return _reduced(self, _slice_writer(dim, index, self.ndim), source, reduce, include_self)
