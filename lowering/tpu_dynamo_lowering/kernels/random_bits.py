"""Random bits from a key by XLA's Philox generator, and the uniform, normal and exponential numbers made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

Shape = Sequence[Any]


# The bits of each float's significand. A uniform number has as many, so that it is below one in its own format.
DIGITS = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}


def random_bits(key: Array, shape: Shape, width: int) -> Array:
    """Draw uniform unsigned integers of 32 or 64 bits.

    key: int64[1].
    """
    state = lax.bitcast_convert_type(key, jnp.uint64)
    state = jnp.concatenate([state, jnp.zeros((1,), jnp.uint64)])  # Philox: the key, then a counter from zero
    dtype = jnp.uint64 if width == 64 else jnp.uint32
    return lax.rng_bit_generator(state, tuple(shape), dtype, algorithm=lax.RandomAlgorithm.RNG_PHILOX)[1]


def unit_interval(key: Array, shape: Shape, dtype: np.dtype[Any], open_below: bool = False) -> Array:
    """Draw uniform numbers in [0, 1), or in (0, 1) if `open_below`, with all binary digits that the format has."""
    digits = DIGITS.get(dtype.name, 24)
    width = 64 if digits > 24 else 32
    wide = jnp.float64 if width == 64 else jnp.float32
    whole = (random_bits(key, shape, width) >> (width - digits)).astype(wide)
    return (whole + 0.5 if open_below else whole) * 2.0**-digits


def standard_normal(key: Array, shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Draw normal numbers with mean 0 and variance 1; complex ones have variance 1/2 in each part."""
    wide = np.dtype(jnp.float64) if dtype == jnp.float64 else np.dtype(jnp.float32)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        parts = standard_normal(key, (2, *shape), np.dtype(jnp.float64 if dtype == jnp.complex128 else jnp.float32))
        return lax.complex(parts[0], parts[1]) * math.sqrt(0.5)
    return math.sqrt(2) * lax.erf_inv(2 * unit_interval(key, shape, wide, open_below=True) - 1)


def standard_exponential(key: Array, shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Draw from the exponential distribution with rate 1, never zero."""
    wide = np.dtype(jnp.float64) if dtype == jnp.float64 else np.dtype(jnp.float32)
    return -jnp.log(unit_interval(key, shape, wide, open_below=True))


def jax_key(key: Array) -> Array:
    """Convert a key to one of jax.random, whose bits come from the same XLA generator."""
    words = lax.bitcast_convert_type(key[0], jnp.uint32)
    return jax.random.wrap_key_data(jnp.concatenate([words, jnp.zeros((2,), jnp.uint32)]), impl="rbg")
