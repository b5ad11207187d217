"""Greatest common divisors and least common multiples of integers."""

from __future__ import annotations

import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from .elementwise import promoted

aten = torch.ops.aten
prims = torch.ops.prims


def _gcd(x: Array, y: Array) -> Array:
    """Compute greatest common divisors by Euclid's algorithm on signed remainders.

    A remainder is smaller in size than its divisor, so the loop ends for every integer, after at most 92 steps for 64
    bits. The smallest integer has no positive counterpart; it stays negative, and so may the result, as in eager
    PyTorch.
    """
    x, y = jnp.broadcast_arrays(jnp.abs(x), jnp.abs(y))

    def divide(state: tuple[Array, Array]) -> tuple[Array, Array]:
        divisor, dividend = state
        done = divisor == 0
        remainder = lax.rem(dividend, jnp.where(done, 1, divisor))
        return jnp.where(done, divisor, remainder), jnp.where(done, dividend, divisor)

    return lax.while_loop(lambda state: jnp.any(state[0] != 0), divide, (x, y))[1]


@kernel(aten.gcd.default, prims.gcd.default)
def gcd(self: Array, other: Array) -> Array:
    """Return the greatest common divisor; that of zero and a number is the number."""
    return _gcd(*promoted(self, other))


@kernel(aten.lcm.default)
def lcm(self: Array, other: Array) -> Array:
    """Return the least common multiple, truncated to the dtype's width; zero where either operand is zero.

    Eager PyTorch multiplies narrow integers as 32-bit ones and truncates the product's absolute value, which differs
    from the absolute value of the truncated product.
    """
    x, y = promoted(self, other)
    divisor = _gcd(x, y)
    wide = jnp.promote_types(x.dtype, jnp.int32)
    x, y, divisor = x.astype(wide), y.astype(wide), divisor.astype(wide)
    multiple = lax.div(x, jnp.where(divisor == 0, 1, divisor)) * y
    return jnp.where(divisor == 0, 0, jnp.abs(multiple))
