"""Reductions: sums, products, extremes and their positions, any and all, counts, norms and variances."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from .arithmetic import is_exact
from .casts import cast
from .dtypes import wide
from .moments import moments

aten = torch.ops.aten
prims = torch.ops.prims

Dims = Sequence[int] | int | None


def axes(dim: Dims, rank: int) -> tuple[int, ...]:
    """Return the axes that a schema's `dim` means: all for None or an empty list; negative ones count from the end."""
    if dim is None or (not isinstance(dim, int) and len(dim) == 0):
        return tuple(range(rank))
    dims = (dim,) if isinstance(dim, int) else dim
    return tuple(d % rank for d in dims) if rank else ()


def _accumulated(value: Array, dtype: torch.dtype | None) -> Array:
    if dtype is not None:
        return wide(cast(value, dtype))
    return value.astype(jnp.int64) if is_exact(value) else wide(value)


@kernel(aten.sum.default)
def sum(self: Array, *, dtype: torch.dtype | None = None) -> Array:
    """Sum all values; half precision is accumulated in float32, integers in int64."""
    return jnp.sum(_accumulated(self, dtype))


@kernel(aten.sum.dim_IntList)
def sum_dim(self: Array, dim: Dims, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Array:
    """Sum over dimensions; half precision is accumulated in float32, integers in int64."""
    return jnp.sum(_accumulated(self, dtype), axis=axes(dim, self.ndim), keepdims=keepdim)


@kernel(aten.nansum.default)
def nansum(self: Array, dim: Dims = None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Array:
    """Sum over dimensions, counting nan as zero."""
    return jnp.nansum(_accumulated(self, dtype), axis=axes(dim, self.ndim), keepdims=keepdim)


@kernel(aten.mean.default)
def mean(self: Array, *, dtype: torch.dtype | None = None) -> Array:
    """Average all values; half precision is accumulated in float32."""
    return jnp.mean(_accumulated(self, dtype))


@kernel(aten.mean.dim)
def mean_dim(self: Array, dim: Dims, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Array:
    """Average over dimensions; half precision is accumulated in float32."""
    return jnp.mean(_accumulated(self, dtype), axis=axes(dim, self.ndim), keepdims=keepdim)


@kernel(aten.prod.default)
def prod(self: Array, *, dtype: torch.dtype | None = None) -> Array:
    """Multiply all values; half precision is accumulated in float32, integers in int64."""
    return jnp.prod(_accumulated(self, dtype))


@kernel(aten.prod.dim_int)
def prod_dim(self: Array, dim: int, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Array:
    """Multiply over one dimension; half precision is accumulated in float32, integers in int64."""
    return jnp.prod(_accumulated(self, dtype), axis=axes(dim, self.ndim), keepdims=keepdim)


@kernel(aten.amax.default)
def amax(self: Array, dim: Dims = (), keepdim: bool = False) -> Array:
    """Return the largest value over dimensions; nan wins."""
    return jnp.max(self, axis=axes(dim, self.ndim), keepdims=keepdim)


@kernel(aten.amin.default)
def amin(self: Array, dim: Dims = (), keepdim: bool = False) -> Array:
    """Return the smallest value over dimensions; nan wins."""
    return jnp.min(self, axis=axes(dim, self.ndim), keepdims=keepdim)


@kernel(aten.aminmax.default)
def aminmax(self: Array, *, dim: int | None = None, keepdim: bool = False) -> tuple[Array, Array]:
    """Return the smallest and the largest value, of all or over one dimension; nan wins."""
    over = axes(dim, self.ndim)
    return jnp.min(self, axis=over, keepdims=keepdim), jnp.max(self, axis=over, keepdims=keepdim)


@kernel(aten.max.default)
def max(self: Array) -> Array:
    """Return the largest of all values; nan wins."""
    return jnp.max(self)


@kernel(aten.min.default)
def min(self: Array) -> Array:
    """Return the smallest of all values; nan wins."""
    return jnp.min(self)


def _where_extreme(value: Array, dim: int | None, keepdim: bool, largest: bool) -> Array:
    if value.ndim == 0:
        return jnp.zeros((), jnp.int64)
    find = jnp.argmax if largest else jnp.argmin
    found = find(value, axis=dim, keepdims=keepdim)
    return found.astype(jnp.int64)


def _extreme(value: Array, dim: int, keepdim: bool, largest: bool) -> tuple[Array, Array]:
    index = _where_extreme(value, dim, True, largest)
    if value.ndim == 0:
        return value, index
    values = jnp.take_along_axis(value, index, axis=dim)
    if keepdim:
        return values, index
    return jnp.squeeze(values, dim), jnp.squeeze(index, dim)


@kernel(aten.max.dim)
def max_dim(self: Array, dim: int, keepdim: bool = False) -> tuple[Array, Array]:
    """Return the largest value over one dimension and its first position; nan wins."""
    return _extreme(self, dim, keepdim, largest=True)


@kernel(aten.min.dim)
def min_dim(self: Array, dim: int, keepdim: bool = False) -> tuple[Array, Array]:
    """Return the smallest value over one dimension and its first position; nan wins."""
    return _extreme(self, dim, keepdim, largest=False)


@kernel(aten.argmax.default)
def argmax(self: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    """Return the first position of the largest value, over one dimension or row-major over all; nan wins."""
    return _where_extreme(self, dim, keepdim, largest=True)


@kernel(aten.argmin.default)
def argmin(self: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    """Return the first position of the smallest value, over one dimension or row-major over all; nan wins."""
    return _where_extreme(self, dim, keepdim, largest=False)


@kernel(aten.any.default)
def any(self: Array) -> Array:
    """Return True if any value is not zero; uint8 gives uint8."""
    return jnp.any(self)


@kernel(aten.any.dim, aten.any.dims)
def any_dim(self: Array, dim: Dims = None, keepdim: bool = False) -> Array:
    """Return, over dimensions, True where any value is not zero; uint8 gives uint8."""
    return jnp.any(self, axis=axes(dim, self.ndim), keepdims=keepdim)


@kernel(aten.all.default)
def all(self: Array) -> Array:
    """Return True if no value is zero; uint8 gives uint8."""
    return jnp.all(self)


@kernel(aten.all.dim, aten.all.dims)
def all_dim(self: Array, dim: Dims = None, keepdim: bool = False) -> Array:
    """Return, over dimensions, True where no value is zero; uint8 gives uint8."""
    return jnp.all(self, axis=axes(dim, self.ndim), keepdims=keepdim)


@kernel(aten.count_nonzero.default)
def count_nonzero(self: Array, dim: int | None = None) -> Array:
    """Count the values that are not zero, of all or over one dimension."""
    return jnp.sum(self != 0, axis=axes(dim, self.ndim), dtype=jnp.int64)


@kernel(aten.count_nonzero.dim_IntList)
def count_nonzero_dims(self: Array, dim: Sequence[int]) -> Array:
    """Count the values that are not zero, over dimensions."""
    return jnp.sum(self != 0, axis=axes(dim, self.ndim), dtype=jnp.int64)


def _variance(value: Array, dim: Dims, correction: float | None, keepdim: bool) -> tuple[Array, Array]:
    over = axes(dim, value.ndim)
    value = wide(value)
    count = math.prod(value.shape[d] for d in over)
    freedom = count - (1 if correction is None else correction)
    freedom = freedom if freedom > 0 else 0

    def plain(value: Array) -> tuple[Array, Array]:
        mean = jnp.mean(value, axis=over, keepdims=True)
        squares = jnp.sum(jnp.square(jnp.abs(value - mean)), axis=over, keepdims=True)
        return squares / jnp.asarray(freedom, squares.dtype), mean

    def in_float64(value: Array) -> tuple[Array, Array]:
        mean, variance = moments(value.astype(jnp.float64), over)  # as in eager
        return (variance * count / freedom).astype(value.dtype), mean.astype(value.dtype)

    if value.dtype == jnp.float32 and value.size:
        variance, mean = lax.platform_dependent(value, cpu=in_float64, default=plain)
    else:
        variance, mean = plain(value)
    return (variance, mean) if keepdim else (jnp.squeeze(variance, over), jnp.squeeze(mean, over))


@kernel(aten.var.correction)
def var(self: Array, dim: Dims = None, *, correction: float | None = None, keepdim: bool = False) -> Array:
    """Compute the variance over dimensions: the sum of squares divided by the count less `correction`, by default 1."""
    return _variance(self, dim, correction, keepdim)[0]


@kernel(aten.var_mean.correction)
def var_mean(
    self: Array, dim: Dims = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[Array, Array]:
    """Compute the variance, with `correction` (by default 1) taken off the count, and the mean."""
    return _variance(self, dim, correction, keepdim)


@kernel(aten.std.correction)
def std(self: Array, dim: Dims = None, *, correction: float | None = None, keepdim: bool = False) -> Array:
    """Compute the standard deviation over dimensions, with `correction` (by default 1) taken off the count."""
    return jnp.sqrt(_variance(self, dim, correction, keepdim)[0])


@kernel(aten.std_mean.correction)
def std_mean(
    self: Array, dim: Dims = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[Array, Array]:
    """Compute the standard deviation, with `correction` (by default 1) taken off the count, and the mean."""
    variance, mean = _variance(self, dim, correction, keepdim)
    return jnp.sqrt(variance), mean


@kernel(prims.var.default)
def prims_var(
    inp: Array, dims: Dims, correction: float | None = 1, *, output_dtype: torch.dtype | None = None
) -> Array:
    """Compute the variance over dimensions, with `correction` taken off the count."""
    return _variance(inp, dims, correction, False)[0]


def _prims_reduction(reduce: Callable[..., Array]) -> Callable[..., Any]:
    def over_dims(inp: Array, dims: Dims, *, output_dtype: torch.dtype | None = None) -> Array:
        """Reduce over dimensions in the dtype of the input; half precision is accumulated in float32."""
        value = inp if output_dtype is None else cast(inp, output_dtype)
        return reduce(wide(value), axis=axes(dims, inp.ndim))

    return over_dims


for _overload, _reduce in (
    (prims.sum.default, jnp.sum),
    (prims.prod.default, jnp.prod),
    (prims.amax.default, jnp.max),
    (prims.amin.default, jnp.min),
):
    kernel(_overload)(_prims_reduction(_reduce))


@kernel(prims.xor_sum.default)
def xor_sum(inp: Array, dims: Dims, *, output_dtype: torch.dtype | None = None) -> Array:
    """Combine integers over dimensions by exclusive or."""
    return lax.reduce(inp, jnp.zeros((), inp.dtype), lax.bitwise_xor, axes(dims, inp.ndim))


@kernel(aten.hash_tensor.default)
def hash_tensor(self: Array, dim: Dims = (), *, keepdim: bool = False, mode: int = 0) -> Array:
    """Combine values over dimensions by exclusive or of their 64 bits: integers as int64, floats as float64."""
    exact = is_exact(self)
    bits = self.astype(jnp.int64) if exact else lax.bitcast_convert_type(self.astype(jnp.float64), jnp.int64)
    over = axes(dim, self.ndim)
    hashed = lax.reduce(bits.astype(jnp.uint64), jnp.zeros((), jnp.uint64), lax.bitwise_xor, over)
    return jnp.expand_dims(hashed, over) if keepdim else hashed


@kernel(aten.logsumexp.default)
def logsumexp(self: Array, dim: Sequence[int], keepdim: bool = False) -> Array:
    """Compute the log of the sum of exp over dimensions, shifted by the largest value.

    torch-mlir's pattern crashes the process on some shapes.
    """
    over = axes(dim, self.ndim)
    value = wide(self.astype(jnp.float32) if is_exact(self) else self)
    if value.size == 0:
        return jnp.log(jnp.sum(jnp.exp(value), axis=over, keepdims=keepdim))
    real = value.real if jnp.iscomplexobj(value) else value
    top = lax.stop_gradient(jnp.max(real, axis=over, keepdims=True))
    # A finite number is taken off rows of infinities too; libtpu makes a pass of its own for a test.
    finite = jnp.finfo(top.dtype)
    top = jnp.clip(top, finite.min, finite.max)
    total = jnp.log(jnp.sum(jnp.exp(value - top), axis=over, keepdims=keepdim))
    return total + (top if keepdim else jnp.squeeze(top, over))
