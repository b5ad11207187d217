"""Cumulative operators: cumsum, cumprod, cummax, cummin, logcumsumexp; and logaddexp, which the last one scans."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from .arithmetic import as_float
from .casts import cast
from .elementwise import promoted
from .indexing import narrowed
from .reductions import wide

aten = torch.ops.aten

# The number of elements that a TPU scans at once.
_BLOCK = 2048


def _accumulated(value: Array, dtype: torch.dtype | None) -> Array:
    """Cast `value` to the dtype in which PyTorch accumulates: the one asked for, int64 for integers, else its own."""
    if dtype is not None:
        return cast(value, dtype)
    exact = value.dtype == jnp.bool_ or jnp.issubdtype(value.dtype, jnp.integer)
    return value.astype(jnp.int64) if exact else value


@kernel(aten.cumsum.default)
def cumsum(self: Array, dim: int, *, dtype: torch.dtype | None = None) -> Array:
    """Return the running sum along `dim`; half precision is accumulated in float32.

    torch-mlir has no pattern that accumulates so.
    """
    value = _accumulated(self, dtype)
    if value.ndim == 0:
        return value
    return jnp.cumsum(wide(value), axis=dim)


@kernel(aten.cumprod.default)
def cumprod(self: Array, dim: int, *, dtype: torch.dtype | None = None) -> Array:
    """Return the running product along `dim`; half precision is accumulated in float32."""
    value = _accumulated(self, dtype)
    if value.ndim == 0:
        return value
    return jnp.cumprod(wide(value), axis=dim)


def _running_extreme(value: Array, dim: int, largest: bool) -> tuple[Array, Array]:
    """Return the running extreme and its last position: the running maximum of the positions that attain it.

    Two scans of one operand each, which XLA has a form of for TPUs. One scan of pairs takes minutes to compile there
    for 100,000 elements.
    """
    if value.ndim == 0 or value.size == 0:
        return value, jnp.zeros(value.shape, jnp.int64)
    dim %= value.ndim
    if value.dtype == jnp.bool_:
        value = value.astype(jnp.int8)
    extreme = lax.cummax(value, axis=dim) if largest else lax.cummin(value, axis=dim)
    attains = value == extreme
    if jnp.issubdtype(value.dtype, jnp.floating):
        attains |= jnp.isnan(value)
    position = narrowed(lax.broadcasted_iota(jnp.int64, value.shape, dim), value.shape[dim])
    return extreme, lax.cummax(jnp.where(attains, position, 0), axis=dim)


@kernel(aten.cummax.default)
def cummax(self: Array, dim: int) -> tuple[Array, Array]:
    """Return the running maximum along `dim` and its last position; nan wins from its position on."""
    return _running_extreme(self, dim, largest=True)


@kernel(aten.cummin.default)
def cummin(self: Array, dim: int) -> tuple[Array, Array]:
    """Return the running minimum along `dim` and its last position; nan wins from its position on."""
    return _running_extreme(self, dim, largest=False)


def _add_complex(x: Array, y: Array) -> Array:
    """Compute log(exp(x) + exp(y)) with a phase near that of the larger one, not wrapped, as in PyTorch."""
    low = jnp.where(x.real <= y.real, x, y)
    high = jnp.where(x.real <= y.real, y, x)
    endless = jnp.isinf(low.real) & (low.real == high.real)
    total = high + jnp.log1p(jnp.exp(low - high))
    return jnp.where(endless, jnp.where(low.real < 0, low, jnp.log(jnp.exp(low) + jnp.exp(high))), total)


def log_add_exp(x: Array, y: Array) -> Array:
    """Compute log(exp(x) + exp(y)) without overflow."""
    return _add_complex(x, y) if jnp.iscomplexobj(x) else jnp.logaddexp(x, y)


@kernel(aten.logaddexp.default)
def logaddexp(self: Array, other: Array) -> Array:
    """Compute log(exp(self) + exp(other)) without overflow; a complex result has a phase near the larger one's."""
    x, y = promoted(self, other)
    return log_add_exp(wide(as_float(x)), wide(as_float(y)))


def _blocked_log_sum(value: Array, axis: int) -> Array:
    """Compute the running log of sums of exp by blocks: each for itself, then added to the sum of those before it.

    XLA has a form of this scan for TPUs that it compiles quickly for some thousands of elements.
    """
    extent = value.shape[axis]
    if extent <= 2 * _BLOCK:
        return lax.cumlogsumexp(value, axis=axis)
    last = jnp.moveaxis(value, axis, -1)
    missing = -extent % _BLOCK
    blocks = jnp.pad(last, [(0, 0)] * (last.ndim - 1) + [(0, missing)]).reshape(*last.shape[:-1], -1, _BLOCK)
    inside = lax.cumlogsumexp(blocks, axis=blocks.ndim - 1)
    ends = _blocked_log_sum(inside[..., -1], inside.ndim - 2)
    before = jnp.concatenate((jnp.full_like(ends[..., :1], -jnp.inf), ends[..., :-1]), axis=-1)
    whole = log_add_exp(before[..., None], inside).reshape(*last.shape[:-1], -1)[..., :extent]
    return jnp.moveaxis(whole, -1, axis)


@kernel(aten.logcumsumexp.default)
def logcumsumexp(self: Array, dim: int) -> Array:
    """Compute the log of the running sum of exp along `dim` without overflow.

    torch-mlir's pattern gives wrong values. The phase of complex sums depends on the order of addition, so they are
    added one after the other.
    """
    if self.ndim == 0 or self.size == 0:
        return self
    if not jnp.iscomplexobj(self):
        return lax.platform_dependent(
            wide(self),
            tpu=partial(_blocked_log_sum, axis=dim % self.ndim),
            default=partial(lax.associative_scan, log_add_exp, axis=dim),
        )
    values = jnp.moveaxis(self, dim, 0)

    def add(total: Array, value: Array) -> tuple[Array, Array]:
        total = _add_complex(value, total)
        return total, total

    _, rest = lax.scan(add, values[0], values[1:])
    return jnp.moveaxis(jnp.concatenate((values[:1], rest)), 0, dim)
