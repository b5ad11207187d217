"""Special functions: log gamma, its derivatives, zeta, and inverses and logarithms of the normal distribution."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from .bessel import as_real
from .elementwise import promoted_to_real

aten = torch.ops.aten
prims = torch.ops.prims


def _digamma(x: Array) -> Array:
    # At zero XLA gives nan, PyTorch an infinity of the sign opposite to the zero's.
    return jnp.where(x == 0, jnp.copysign(jnp.inf, -x), lax.digamma(x))


@kernel(aten.digamma.default, prims.digamma.default)
def digamma(self: Array) -> Array:
    """Compute the derivative of log gamma; infinite at zero, nan at the negative integers."""
    return _digamma(as_real(self))


@kernel(aten.lgamma.default, prims.lgamma.default)
def lgamma(self: Array) -> Array:
    """Compute log |gamma(x)|."""
    return lax.lgamma(as_real(self))


def _hurwitz(order: Array, start: Array) -> Array:
    """Compute Hurwitz's zeta function for positive `start`.

    Where the tenth term underflows to zero the sum is that of the first nine: for such orders XLA's expansion of the
    rest is nan, zero times infinity.
    """
    few = sum(jnp.power(start + k, -order) for k in range(9))
    nothing = jnp.power(start + 9, -order) == 0
    return jnp.where(nothing, few, jax.scipy.special.zeta(jnp.where(nothing, 2, order), start))


def _zeta(order: Array, start: Array) -> Array:
    """Compute Hurwitz's zeta function; infinite at the poles, nan below zero for an order that is not an integer.

    The terms below zero are those of the series from the last one's distance to zero on, up to the first one's, with a
    sign. The terms next to zero are added by themselves: they are large, and of an odd order they cancel each other.
    """
    whole = start == jnp.floor(start)
    below = (start < 0) & ~whole
    above = jnp.where(below, jnp.ceil(-start) + start, start)
    under, first = jnp.where(below, 1 - above, 1), jnp.where(below, 1 - start, 1)
    sign = jnp.where(jnp.remainder(order, 2) == 0, 1, -1).astype(order.dtype)
    nearest = jnp.power(above, -order) + sign * jnp.power(under, -order)
    negative = nearest + _hurwitz(order, above + 1) + sign * (_hurwitz(order, under + 1) - _hurwitz(order, first))
    value = jnp.where(below, jnp.where(order == jnp.floor(order), negative, jnp.nan), _hurwitz(order, start))
    infinite = jnp.where(start == 1, 1, jnp.where(start < 1, jnp.inf, jnp.nan))
    value = jnp.where((order == jnp.inf) | (start == jnp.inf), infinite, value)
    value = jnp.where((start <= 0) & whole, jnp.inf, value)
    return jnp.where(order < 1, jnp.nan, jnp.where(order == 1, jnp.inf, value))


def _trigamma(x: Array) -> Array:
    """Compute digamma's derivative, by reflection for arguments below one half."""
    below = x < 0.5
    reflected = jnp.where(below, 1 - x, x)
    value = jnp.where(reflected == jnp.inf, 0, _zeta(jnp.full_like(x, 2), reflected))
    return jnp.where(below, (math.pi / jnp.sin(math.pi * x)) ** 2 - value, value)


@kernel(aten.polygamma.default)
def polygamma(n: int, self: Array) -> Array:
    """Compute the n-th derivative of digamma, by Hurwitz's zeta function."""
    x = as_real(self)
    if n == 0:
        return _digamma(x)
    if n == 1:
        return _trigamma(x)
    factor = float(math.factorial(n)) if n <= 170 else math.inf
    return (1 if n % 2 else -1) * factor * _zeta(jnp.full_like(x, n + 1), x)


@kernel(prims.zeta.default)
def zeta(self: Any, other: Any) -> Array:
    """Compute Hurwitz's zeta function: the sum over k >= 0 of 1 / (other + k) ** self."""
    x, y = promoted_to_real(self, other)
    return _zeta(*jnp.broadcast_arrays(as_real(x), as_real(y)))


@kernel(prims.erfcx.default, aten.special_erfcx.default)
def erfcx(self: Array) -> Array:
    """Compute exp(x²) * erfc(x) without underflow."""
    return jax.scipy.special.erfcx(as_real(self))


@kernel(prims.ndtri.default, aten.special_ndtri.default)
def ndtri(self: Array) -> Array:
    """Compute the quantile of the normal distribution; infinite at 0 and 1, nan outside."""
    return jax.scipy.special.ndtri(as_real(self))


@kernel(aten.special_log_ndtr.default)
def log_ndtr(self: Array) -> Array:
    """Compute the logarithm of the normal distribution function, by its asymptotic form in the lower tail."""
    x = as_real(self)
    scaled = -x * math.sqrt(0.5)
    tail = jnp.log(jax.scipy.special.erfcx(scaled) / 2) - x * x / 2
    return jnp.where(x < -1, tail, jnp.log1p(-lax.erfc(-scaled) / 2))
