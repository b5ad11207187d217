"""Cumulative operators: cumsum, cumprod, cummax, cummin, logcumsumexp; and logaddexp, which the last one scans."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from .arithmetic import as_float
from .casts import cast
from .elementwise import promoted
from .reductions import wide

aten = torch.ops.aten


def _accumulated(value: Array, dtype: torch.dtype | None) -> Array:
    """`value` in the dtype in which PyTorch accumulates: the one asked for, int64 for integers, else its own."""
    if dtype is not None:
        return cast(value, dtype)
    exact = value.dtype == jnp.bool_ or jnp.issubdtype(value.dtype, jnp.integer)
    return value.astype(jnp.int64) if exact else value


@kernel(aten.cumsum.default)
def cumsum(self: Array, dim: int, *, dtype: torch.dtype | None = None) -> Array:
    """Running sum along `dim`. torch-mlir has no pattern that keeps half precision's float32 accumulation."""
    value = _accumulated(self, dtype)
    if value.ndim == 0:
        return value
    return jnp.cumsum(wide(value), axis=dim)


@kernel(aten.cumprod.default)
def cumprod(self: Array, dim: int, *, dtype: torch.dtype | None = None) -> Array:
    """Running product along `dim`. torch-mlir has no pattern for it."""
    value = _accumulated(self, dtype)
    if value.ndim == 0:
        return value
    return jnp.cumprod(wide(value), axis=dim)


def _running_extreme(value: Array, dim: int, largest: bool) -> tuple[Array, Array]:
    if value.ndim == 0 or value.size == 0:
        return value, jnp.zeros(value.shape, jnp.int64)
    dim %= value.ndim
    position = lax.broadcasted_iota(jnp.int64, value.shape, dim)

    def later(left: Any, right: Any) -> Any:
        (a, i), (b, j) = left, right
        newer = b >= a if largest else b <= a
        if jnp.issubdtype(value.dtype, jnp.floating):
            newer = jnp.isnan(b) | (newer & ~jnp.isnan(a))
        return jnp.where(newer, b, a), jnp.where(newer, j, i)

    return lax.associative_scan(later, (value, position), axis=dim)


@kernel(aten.cummax.default)
def cummax(self: Array, dim: int) -> tuple[Array, Array]:
    """Running maximum along `dim` and where it was last attained; nan wins from where it stands."""
    return _running_extreme(self, dim, largest=True)


@kernel(aten.cummin.default)
def cummin(self: Array, dim: int) -> tuple[Array, Array]:
    """Running minimum along `dim` and where it was last attained; nan wins from where it stands."""
    return _running_extreme(self, dim, largest=False)


def _add_complex(x: Array, y: Array) -> Array:
    """log(exp(x) + exp(y)) whose phase lies near that of the larger one, as PyTorch's does; it is not wrapped."""
    low = jnp.where(x.real <= y.real, x, y)
    high = jnp.where(x.real <= y.real, y, x)
    endless = jnp.isinf(low.real) & (low.real == high.real)
    total = high + jnp.log1p(jnp.exp(low - high))
    return jnp.where(endless, jnp.where(low.real < 0, low, jnp.log(jnp.exp(low) + jnp.exp(high))), total)


def log_add_exp(x: Array, y: Array) -> Array:
    """log(exp(x) + exp(y)) without overflow."""
    return _add_complex(x, y) if jnp.iscomplexobj(x) else jnp.logaddexp(x, y)


@kernel(aten.logaddexp.default)
def logaddexp(self: Array, other: Array) -> Array:
    """log(exp(self) + exp(other)) without overflow; of complex numbers, with the phase near the larger one's."""
    x, y = promoted(self, other)
    return log_add_exp(wide(as_float(x)), wide(as_float(y)))


@kernel(aten.logcumsumexp.default)
def logcumsumexp(self: Array, dim: int) -> Array:
    """log of the running sum of exp along `dim`, scanned so that nothing overflows.

    torch-mlir's pattern gives wrong values. The phase of complex sums depends on the order of addition, so they are
    added one after the other.
    """
    if self.ndim == 0 or self.size == 0:
        return self
    if not jnp.iscomplexobj(self):
        return lax.associative_scan(log_add_exp, wide(self), axis=dim)
    values = jnp.moveaxis(self, dim, 0)

    def add(total: Array, value: Array) -> tuple[Array, Array]:
        total = _add_complex(value, total)
        return total, total

    _, rest = lax.scan(add, values[0], values[1:])
    return jnp.moveaxis(jnp.concatenate((values[:1], rest)), 0, dim)
