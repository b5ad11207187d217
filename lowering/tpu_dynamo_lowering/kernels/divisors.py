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
    """Euclid's algorithm on signed remainders.

    A remainder is smaller in size than its divisor, so that the loop ends for every integer, after at most 92 steps
    for 64 bits. The least integer has no positive counterpart; it stays negative, and the result may, as in eager.
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
    """The greatest common divisor; of zero and a number, that number."""
    return _gcd(*promoted(self, other))


@kernel(aten.lcm.default)
def lcm(self: Array, other: Array) -> Array:
    """The least common multiple, cut to the width of the dtype; zero where either is zero.

    Eager PyTorch multiplies narrow integers as 32-bit ones and cuts the size of the product, which is not the size of
    the cut product.
    """
    x, y = promoted(self, other)
    divisor = _gcd(x, y)
    wide = jnp.promote_types(x.dtype, jnp.int32)
    x, y, divisor = x.astype(wide), y.astype(wide), divisor.astype(wide)
    multiple = lax.div(x, jnp.where(divisor == 0, 1, divisor)) * y
    return jnp.where(divisor == 0, 0, jnp.abs(multiple))
