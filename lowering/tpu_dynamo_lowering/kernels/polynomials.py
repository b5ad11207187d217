"""Orthogonal polynomials: Chebyshev's four kinds, plain and shifted, Hermite's, Laguerre's and Legendre's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import How, Lowering, add
from .bessel import as_real
from .elementwise import promoted

aten = torch.ops.aten

# The next member of a family: of the argument, the degree k of the last member, that member and the one before.
Step = Callable[[Array, Array, Array, Array], Array]

# Beyond these degrees Hermite's polynomials are nan in PyTorch.
_HERMITE_LIMIT = {4: 128, 8: 512}


def _member(x: Array, degree: Array, first: Array, step: Step, wanted: Array) -> Array:
    """The member of each degree where `wanted`, by the family's recurrence from 1 and `first`."""
    highest = jnp.max(jnp.where(wanted, degree, 0), initial=0)

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        return state[0] < highest

    def advance(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        k, before, last = state
        following = step(x, k, last, before)
        more = k < degree
        return k + 1, jnp.where(more, last, before), jnp.where(more, following, last)

    one = jnp.ones((), x.dtype)
    _, _, last = lax.while_loop(unfinished, advance, (one, jnp.ones_like(x), first))
    return jnp.where(degree == 0, 1, last)


def _arguments(x: Any, n: Any) -> tuple[Array, Array]:
    x, n = promoted(x, n)
    x, n = jnp.broadcast_arrays(as_real(x), as_real(n))
    # Degrees are cut to whole numbers; infinite ones count as negative, for which the polynomial is zero.
    return x, jnp.where(jnp.isfinite(n), jnp.trunc(n), -1)


def _doubling(x: Array, k: Array, last: Array, before: Array) -> Array:
    return (x + x) * last - before


def _chebyshev(kind: str, x: Array, n: Array, closed_above: int) -> Array:
    """A Chebyshev polynomial; inside (-1, 1), for degrees past `closed_above`, by its cosines."""
    angle = jnp.arccos(jnp.where(jnp.abs(x) < 1, x, 0))
    sign = jnp.where(jnp.remainder(n, 2) == 0, 1, -1).astype(x.dtype)
    one = jnp.ones_like(x)
    double = x + x
    first, at_one, at_minus_one, closed = {
        "t": (x, one, sign, jnp.cos(n * angle)),
        "u": (double, n + 1, sign * (n + 1), jnp.sin((n + 1) * angle) / jnp.sin(angle)),
        "v": (double - 1, one, sign * (n + n + 1), jnp.cos((n + 0.5) * angle) / jnp.cos(angle / 2)),
        "w": (double + 1, n + n + 1, sign, jnp.sin((n + 0.5) * angle) / jnp.sin(angle / 2)),
    }[kind]
    inside = (n > closed_above) & (jnp.abs(x) < 1)
    value = jnp.where(inside, closed, _member(x, n, first, _doubling, ~inside & (jnp.abs(x) != 1)))
    return jnp.where(x == 1, at_one, jnp.where(x == -1, at_minus_one, value))


def _hermite(x: Array, n: Array, physicists: bool) -> Array:
    scale = 2 if physicists else 1
    limit = _HERMITE_LIMIT[x.dtype.itemsize]

    def step(x: Array, k: Array, last: Array, before: Array) -> Array:
        return scale * (x * last - k * before)

    return jnp.where(n > limit, jnp.nan, _member(x, n, scale * x, step, n <= limit))


def _laguerre(x: Array, n: Array) -> Array:
    def step(x: Array, k: Array, last: Array, before: Array) -> Array:
        return ((k + k + (1 - x)) * last - k * before) / (k + 1)

    return jnp.where(x == 0, 1, _member(x, n, 1 - x, step, x != 0))


def _legendre(x: Array, n: Array) -> Array:
    def step(x: Array, k: Array, last: Array, before: Array) -> Array:
        return ((k + k + 1) * x * last - k * before) / (k + 1)

    sign = jnp.where(jnp.remainder(n, 2) == 0, 1, -1).astype(x.dtype)
    value = _member(x, n, x, step, jnp.abs(x) != 1)
    return jnp.where(x == 1, 1, jnp.where(x == -1, sign, value))


# Each family by its name in ATen. The degrees past which PyTorch takes the closed form are its own.
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


_REASON = "a recurrence up to the highest degree among the elements, which only a loop can say."

for _name, _family in _FAMILIES.items():
    for _overload in ("default", "x_scalar", "n_scalar"):
        _target = getattr(getattr(aten, f"special_{_name}"), _overload)
        add(Lowering(_target, How.KERNEL, _REASON, _kernel_of(_family)))
