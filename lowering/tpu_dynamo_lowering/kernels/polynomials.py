"""Orthogonal polynomials: Chebyshev's four kinds, plain and shifted, Hermite's, Laguerre's and Legendre's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import How, Lowering, add
from .bessel import as_real, bessel_i0e, bessel_j0
from .elementwise import promoted_to_real

aten = torch.ops.aten

# Computes a family's next member from the argument, the degree k of the last member, that member and the one before.
Recurrence = Callable[[Array, Array, Array, Array], Array]

# Beyond these degrees Hermite's polynomials are nan in PyTorch.
_HERMITE_LIMIT = {4: 128, 8: 512}

# The most steps of a recurrence. Higher degrees are computed by the forms that the polynomials take for large degrees:
# eager goes on step by step, for days where the degree is the largest integer.
_STEPS = 2**20


def _member(x: Array, degree: Array, first: Array, step: Recurrence, wanted: Array) -> Array:
    """Compute the family's member of each degree up to `_STEPS`, where `wanted`, by recurrence from 1 and `first`."""
    degree = jnp.where(wanted & (degree <= _STEPS), degree, 0)

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        return jnp.any((state[0] < degree) & ~jnp.isnan(state[2]))

    def advance(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        k, before, last = state
        following = step(x, k.astype(x.dtype), last, before)
        more = k < degree
        return k + 1, jnp.where(more, last, before), jnp.where(more, following, last)

    one = jnp.ones((), jnp.int32)
    _, _, last = lax.while_loop(unfinished, advance, (one, jnp.ones_like(x), first))
    return jnp.where(degree == 0, 1, last)


def _arguments(x: Any, n: Any) -> tuple[Array, Array]:
    x, n = promoted_to_real(x, n)
    x, n = jnp.broadcast_arrays(as_real(x), as_real(n))
    # Degrees are truncated to 64-bit integers; those out of range count as negative, for which the polynomial is zero.
    return x, jnp.where(jnp.abs(n) < 2.0**63, jnp.trunc(n), -1)


def _chebyshev_step(x: Array, k: Array, last: Array, before: Array) -> Array:
    return (x + x) * last - before


def _nan_if_infinite(value: Array) -> Array:
    """Replace infinities by nan: a recurrence that overflows ends as the difference of infinities."""
    return jnp.where(jnp.isinf(value), jnp.nan, value)


def _hyperbolic_angle(x: Array) -> Array:
    """Compute arcosh |x|, exactly next to one."""
    over = jnp.maximum(jnp.abs(x) - 1, 0)
    return jnp.log1p(over + jnp.sqrt(over * (over + 2)))


def _parity(n: Array) -> Array:
    return jnp.where(jnp.remainder(n, 2) == 0, 1, -1).astype(n.dtype)


def _chebyshev(kind: str, x: Array, n: Array, closed_above: int) -> Array:
    """Evaluate a Chebyshev polynomial; inside (-1, 1), for degrees past `closed_above`, by its cosines."""
    angle = jnp.arccos(jnp.where(jnp.abs(x) < 1, x, 0))
    sign = _parity(n)
    one = jnp.ones_like(x)
    double = x + x
    first, at_one, at_minus_one, closed = {
        "t": (x, one, sign, jnp.cos(n * angle)),
        "u": (double, n + 1, sign * (n + 1), jnp.sin((n + 1) * angle) / jnp.sin(angle)),
        "v": (double - 1, one, sign * (n + n + 1), jnp.cos((n + 0.5) * angle) / jnp.cos(angle / 2)),
        "w": (double + 1, n + n + 1, sign, jnp.sin((n + 0.5) * angle) / jnp.sin(angle / 2)),
    }[kind]
    inside = (n > closed_above) & (jnp.abs(x) < 1)
    value = jnp.where(inside, closed, _member(x, n, first, _chebyshev_step, ~inside & (jnp.abs(x) != 1)))
    value = jnp.where((n > _STEPS) & ~inside, _outer_chebyshev(kind, x, n), value)
    return jnp.where(x == 1, at_one, jnp.where(x == -1, at_minus_one, value))


def _outer_chebyshev(kind: str, x: Array, n: Array) -> Array:
    """Evaluate a Chebyshev polynomial outside [-1, 1], where its cosines become hyperbolic."""
    angle = _hyperbolic_angle(x)
    by_cosine = jnp.cosh((n + 0.5) * angle) / jnp.cosh(angle / 2)
    by_sine = jnp.sinh((n + 0.5) * angle) / jnp.sinh(angle / 2)
    value = {
        "t": jnp.cosh(n * angle),
        "u": jnp.sinh((n + 1) * angle) / jnp.sinh(angle),
        "v": jnp.where(x < 0, by_sine, by_cosine),
        "w": jnp.where(x < 0, by_cosine, by_sine),
    }[kind]
    return _nan_if_infinite(jnp.where(x < 0, _parity(n) * value, value))


def _hermite(x: Array, n: Array, physicists: bool) -> Array:
    scale = 2 if physicists else 1
    limit = _HERMITE_LIMIT[x.dtype.itemsize]

    def step(x: Array, k: Array, last: Array, before: Array) -> Array:
        return scale * (x * last - k * before)

    return jnp.where(n > limit, jnp.nan, _member(x, n, scale * x, step, n <= limit))


def _laguerre(x: Array, n: Array) -> Array:
    def step(x: Array, k: Array, last: Array, before: Array) -> Array:
        return ((k + k + (1 - x)) * last - k * before) / (k + 1)

    value = jnp.where(n > _STEPS, _far_laguerre(x, n), _member(x, n, 1 - x, step, x != 0))
    return jnp.where(x == 0, 1, value)


def _far_laguerre(x: Array, n: Array) -> Array:
    """Evaluate Laguerre's polynomial of a large degree left of its turning point; nan beyond.

    Source: DLMF 18.15.19, its first term.
    """
    nu = 4 * n + 2
    u = jnp.abs(x) / nu
    root = jnp.sqrt(jnp.where(u < 1, u, 0.5))
    waves = (jnp.sqrt(u * (1 - u)) + jnp.arcsin(root)) / 2
    wave = jnp.exp(x / 2) * jnp.sqrt(waves) / jnp.sqrt(jnp.sqrt(u * (1 - u))) * bessel_j0(nu * waves)
    growth = (jnp.sqrt(u * (1 + u)) + jnp.arcsinh(jnp.sqrt(u))) / 2
    scale = jnp.sqrt(growth) / jnp.sqrt(jnp.sqrt(u * (1 + u)))
    grown = jnp.exp(x / 2 + nu * growth) * scale * bessel_i0e(nu * growth)
    return _nan_if_infinite(jnp.where(x < 0, grown, jnp.where(u < 1, wave, jnp.nan)))


def _legendre(x: Array, n: Array) -> Array:
    def step(x: Array, k: Array, last: Array, before: Array) -> Array:
        return ((k + k + 1) * x * last - k * before) / (k + 1)

    value = jnp.where(n > _STEPS, _far_legendre(x, n), _member(x, n, x, step, jnp.abs(x) != 1))
    return jnp.where(x == 1, 1, jnp.where(x == -1, _parity(n), value))


def _far_legendre(x: Array, n: Array) -> Array:
    """Evaluate Legendre's polynomial of a large degree by Hilb's formula.

    Source: DLMF 18.15.12, its first term.
    """
    size = jnp.abs(x)
    angle = jnp.arccos(jnp.minimum(size, 1))
    wave = jnp.sqrt(angle / jnp.sin(angle)) * bessel_j0((n + 0.5) * angle)
    wide = _hyperbolic_angle(x)
    grown = jnp.sqrt(wide / jnp.sinh(wide)) * jnp.exp((n + 0.5) * wide) * bessel_i0e((n + 0.5) * wide)
    value = _nan_if_infinite(jnp.where(size < 1, wave, grown))
    return jnp.where(x < 0, _parity(n) * value, value)


# Each family by its name in ATen. The numbers are the degrees past which PyTorch uses the closed form.
_FAMILIES: dict[str, Callable[[Array, Array], Array]] = {
    "chebyshev_polynomial_t": lambda x, n: _chebyshev("t", x, n, 6),
    "chebyshev_polynomial_u": lambda x, n: _chebyshev("u", x, n, 8),
    "chebyshev_polynomial_v": lambda x, n: _chebyshev("v", x, n, 8),
    "chebyshev_polynomial_w": lambda x, n: _chebyshev("w", x, n, 8),
    "hermite_polynomial_h": lambda x, n: _hermite(x, n, physicists=True),
    "hermite_polynomial_he": lambda x, n: _hermite(x, n, physicists=False),
    "laguerre_polynomial_l": _laguerre,
    "legendre_polynomial_p": _legendre,
    "shifted_chebyshev_polynomial_t": lambda x, n: _chebyshev("t", x + x - 1, n, 6),
    "shifted_chebyshev_polynomial_u": lambda x, n: _chebyshev("u", x + x - 1, n, 6),
    "shifted_chebyshev_polynomial_v": lambda x, n: _chebyshev("v", x + x - 1, n, 6),
    "shifted_chebyshev_polynomial_w": lambda x, n: _chebyshev("w", x + x - 1, n, 4),
}


def _kernel_of(family: Callable[[Array, Array], Array]) -> Callable[[Any, Any], Array]:
    def compute(x: Any, n: Any) -> Array:
        x, n = _arguments(x, n)
        return jnp.where(n < 0, 0, family(x, n))

    return compute


_REASON = "a loop that runs the recurrence up to the highest degree among the elements."

for _name, _family in _FAMILIES.items():
    for _overload in ("default", "x_scalar", "n_scalar"):
        _target = getattr(getattr(aten, f"special_{_name}"), _overload)
        add(Lowering(_target, How.KERNEL, _REASON, _kernel_of(_family)))
