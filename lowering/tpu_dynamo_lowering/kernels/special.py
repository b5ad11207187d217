"""Special functions: gamma and its relatives, zeta, and the inverses and logarithms of the normal distribution."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from .bessel import as_real

aten = torch.ops.aten
prims = torch.ops.prims


def _digamma(x: Array) -> Array:
    # At zero XLA gives nan, PyTorch the infinity of the side that the zero's sign names.
    return jnp.where(x == 0, jnp.copysign(jnp.inf, -x), lax.digamma(x))


@kernel(aten.digamma.default, prims.digamma.default)
def digamma(self: Array) -> Array:
    """The derivative of log gamma; infinite at zero, nan at the negative whole numbers."""
    return _digamma(as_real(self))


@kernel(aten.lgamma.default, prims.lgamma.default)
def lgamma(self: Array) -> Array:
    """log |gamma|."""
    return lax.lgamma(as_real(self))


def _zeta(order: Array, start: Array) -> Array:
    """Hurwitz's zeta function; infinite at the poles, nan below zero for an order that is not whole.

    XLA's is right for positive `start`. From below zero, the terms up to there are added one by one, as PyTorch does.
    """
    below = jnp.where((start < 0) & jnp.isfinite(start), jnp.ceil(-start), 0)
    most = jnp.max(below, initial=0)

    def add_term(state: tuple[Array, Array]) -> tuple[Array, Array]:
        k, total = state
        return k + 1, total + jnp.where(k < below, jnp.power(start + k, -order), 0)

    zero = jnp.zeros((), start.dtype)
    _, terms = lax.while_loop(lambda state: state[0] < most, add_term, (zero, jnp.zeros_like(start)))
    pole = (start <= 0) & (start == jnp.floor(start)) & (order > 1)
    value = jnp.where(pole, jnp.inf, terms + jax.scipy.special.zeta(order, start + below))
    return jnp.where(order < 1, jnp.nan, value)


def _trigamma(x: Array) -> Array:
    """digamma's derivative, reflected about one half for what lies below."""
    below = x < 0.5
    reflected = jnp.where(below, 1 - x, x)
    value = _zeta(jnp.full_like(x, 2), reflected)
    return jnp.where(below, (math.pi / jnp.sin(math.pi * x)) ** 2 - value, value)


@kernel(aten.polygamma.default)
def polygamma(n: int, self: Array) -> Array:
    """The n-th derivative of digamma, by Hurwitz's zeta function."""
    x = as_real(self)
    if n == 0:
        return _digamma(x)
    if n == 1:
        return _trigamma(x)
    factor = math.factorial(n) if n <= 170 else math.inf
    return (1 if n % 2 else -1) * factor * _zeta(jnp.full_like(x, n + 1), x)


@kernel(prims.zeta.default)
def zeta(self: Array, other: Array) -> Array:
    """Hurwitz's zeta function of order `self` from `other` on."""
    return _zeta(*jnp.broadcast_arrays(as_real(self), as_real(other)))


@kernel(prims.igamma.default, aten.igamma.default)
def igamma(self: Array, other: Array) -> Array:
    """The regularised lower incomplete gamma function."""
    a, x = jnp.broadcast_arrays(as_real(self), as_real(other))
    return lax.igamma(a, x)


@kernel(prims.igammac.default, aten.igammac.default)
def igammac(self: Array, other: Array) -> Array:
    """The regularised upper incomplete gamma function."""
    a, x = jnp.broadcast_arrays(as_real(self), as_real(other))
    return lax.igammac(a, x)


@kernel(prims.erfcx.default, aten.special_erfcx.default)
def erfcx(self: Array) -> Array:
    """exp(x²) erfc(x), which does not underflow."""
    return jax.scipy.special.erfcx(as_real(self))


@kernel(prims.ndtri.default, aten.special_ndtri.default)
def ndtri(self: Array) -> Array:
    """The quantile of the normal distribution; infinite at 0 and 1, nan outside."""
    return jax.scipy.special.ndtri(as_real(self))


@kernel(aten.special_log_ndtr.default)
def log_ndtr(self: Array) -> Array:
    """The logarithm of the normal distribution function; its asymptotic form in the far lower tail."""
    x = as_real(self)
    scaled = -x * math.sqrt(0.5)
    tail = jnp.log(jax.scipy.special.erfcx(scaled) / 2) - x * x / 2
    return jnp.where(x < -1, tail, jnp.log1p(-lax.erfc(-scaled) / 2))
