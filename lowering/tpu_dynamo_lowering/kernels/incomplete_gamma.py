"""The regularised incomplete gamma functions."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from .bessel import as_real, polynomial

aten = torch.ops.aten
prims = torch.ops.prims

# Where the uniform expansion is taken: for shapes from here on, and x / shape within this distance of one. There XLA's
# series takes as many steps as the shape has digits of size, and never ends for the largest floats; elsewhere a term
# is at most 0.7 of the one before, or the shape is small, so that about 150 steps are enough.
_LARGE = 20.0
_NEAR = 0.3
_ORDERS, _POWERS = 12, 18


@cache
def _expansion() -> tuple[tuple[float, ...], ...]:
    """Return the Taylor coefficients of the functions c_k of Temme's expansion for each k, the highest power's first.

    Source: DLMF 8.12, whose alpha, g and d these are, computed exactly.
    """
    alpha = [Fraction(0), Fraction(1)]
    for n in range(2, _POWERS + 2 * _ORDERS + 3):
        inner = sum((j * alpha[j] * alpha[n - j + 1] for j in range(2, n)), Fraction(0))
        alpha.append((alpha[n - 1] - inner) / (n + 1))
    count = _POWERS + 2 * _ORDERS
    first = [Fraction(-1, 3)] + [(n + 2) * alpha[n + 2] for n in range(1, count)]
    rows = [first]
    for k in range(1, _ORDERS):
        g = math.prod(range(1, 2 * k + 2, 2)) * alpha[2 * k + 1]
        before = rows[-1]
        rows.append([(-1) ** k * g * first[n] + (n + 2) * before[n + 2] for n in range(len(before) - 2)])
    return tuple(tuple(float(c) for c in reversed(row[:_POWERS])) for row in rows)


def _excess(mu: Array) -> Array:
    """Compute mu - log(1 + mu) without cancellation, for |mu| up to `_NEAR`."""
    r = mu / (2 + mu)
    square = r * r
    odd = polynomial(square, [1 / n for n in range(27, 2, -2)])
    return r * mu - 2 * r * square * odd


def _near_shape(a: Array, x: Array) -> tuple[Array, Array]:
    """Compute both functions for a large shape and x near it, by Temme's uniform expansion.

    Source: DLMF 8.12.3 to 8.12.7.
    """
    mu = (x - a) / a
    half = _excess(mu)
    eta = jnp.sign(mu) * jnp.sqrt(2 * half)
    total = jnp.zeros_like(a)
    for row in reversed(_expansion()):
        total = total / a + polynomial(eta, row)
    rest = jnp.exp(-a * half) / (math.sqrt(2 * math.pi) * jnp.sqrt(a)) * total
    z = jnp.sign(mu) * jnp.sqrt(a * half)
    return lax.erfc(-z) / 2 - rest, lax.erfc(z) / 2 + rest


def _both(a: Array, x: Array) -> tuple[Array, Array]:
    """Compute the regularised lower and upper incomplete gamma functions."""
    near = (a > _LARGE) & jnp.isfinite(a) & (jnp.abs(x - a) < _NEAR * a)
    one = jnp.ones_like(a)
    shape, end = jnp.where(near, a, 25 * one), jnp.where(near, x, 25 * one)
    lower, upper = _near_shape(shape, end)
    shape, end = jnp.where(near, one, a), jnp.where(near, one, x)
    lower = jnp.where(near, lower, lax.igamma(shape, end))
    upper = jnp.where(near, upper, lax.igammac(shape, end))
    # The limits, in the reverse order of eager PyTorch's tests: the last one here wins.
    for where, below, above in (
        (jnp.isnan(a) | jnp.isnan(x), jnp.nan, jnp.nan),
        (x == jnp.inf, 1, 0),
        (a == jnp.inf, 0, 1),
        ((a == jnp.inf) & (x == jnp.inf), jnp.nan, jnp.nan),
        (x == 0, 0, 1),
        (a == 0, 1, 0),
        ((a == 0) & ~(x > 0), jnp.nan, jnp.nan),
        ((a < 0) | (x < 0), jnp.nan, jnp.nan),
    ):
        lower, upper = jnp.where(where, below, lower), jnp.where(where, above, upper)
    return lower, upper


@kernel(prims.igamma.default, aten.igamma.default)
def igamma(self: Array, other: Array) -> Array:
    """Compute the regularised lower incomplete gamma function P(self, other); nan for negative arguments."""
    return _both(*jnp.broadcast_arrays(as_real(self), as_real(other)))[0]


@kernel(prims.igammac.default, aten.igammac.default)
def igammac(self: Array, other: Array) -> Array:
    """Compute the regularised upper incomplete gamma function Q(self, other); nan for negative arguments."""
    return _both(*jnp.broadcast_arrays(as_real(self), as_real(other)))[1]
