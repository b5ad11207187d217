"""Cumulative operators: cumsum, cumprod, cummax, cummin, logcumsumexp."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from .dtypes import jax_dtype

aten = torch.ops.aten


def _accumulated(value: Array, dtype: torch.dtype | None) -> Array:
    """`value` in the dtype in which PyTorch accumulates: the one asked for, int64 for integers, else its own."""
    if dtype is not None:
        return value.astype(jax_dtype(dtype))
    exact = value.dtype == jnp.bool_ or jnp.issubdtype(value.dtype, jnp.integer)
    return value.astype(jnp.int64) if exact else value


@kernel(aten.cumsum.default)
def cumsum(self: Array, dim: int, *, dtype: torch.dtype | None = None) -> Array:
    """Running sum along `dim`. torch-mlir has no pattern that keeps half precision's float32 accumulation."""
    value = _accumulated(self, dtype)
    if value.ndim == 0:
        return value
    wide = value.astype(jnp.float32) if value.dtype in (jnp.bfloat16, jnp.float16) else value
    return jnp.cumsum(wide, axis=dim)


@kernel(aten.cumprod.default)
def cumprod(self: Array, dim: int, *, dtype: torch.dtype | None = None) -> Array:
    """Running product along `dim`. torch-mlir has no pattern for it."""
    value = _accumulated(self, dtype)
    if value.ndim == 0:
        return value
    wide = value.astype(jnp.float32) if value.dtype in (jnp.bfloat16, jnp.float16) else value
    return jnp.cumprod(wide, axis=dim)


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


@kernel(aten.logcumsumexp.default)
def logcumsumexp(self: Array, dim: int) -> Array:
    """log of the running sum of exp along `dim`, scanned with logaddexp so that nothing overflows.

    torch-mlir's pattern gives wrong values.
    """
    if self.ndim == 0 or self.size == 0:
        return self
    return lax.associative_scan(jnp.logaddexp, self, axis=dim)
