"""Means and variances: in two passes, and over rows by the matrix unit where there is one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
from jax import Array, lax

from .dtypes import wide

# Of equal columns of ones: XLA makes a sum over lanes of a product with one column, which is what it is to replace.
_COLUMNS = 8


def moments(value: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Return mean and variance over `axes`, kept as dimensions of size 1.

    Two passes, since the difference of squares loses digits. As in eager PyTorch the mean of nothing is zero, and its
    variance nan.
    """
    mean = jnp.mean(value, axis=axes, keepdims=True)
    if not value.size:
        mean = jnp.zeros_like(mean)
    return mean, jnp.mean(jnp.square(value - mean), axis=axes, keepdims=True)


def row_moments(input: Array, last: int) -> tuple[Array, Array]:
    """Return mean and variance over the `last` dimensions, kept as dimensions of size 1; half precision in float32.

    On a TPU a sum over the last dimension takes three times as long as a product with ones, unless it is fused into
    the product that makes the row: the second of two passes never is.
    """
    over = tuple(range(input.ndim - last, input.ndim))
    plain = partial(_plain_moments, axes=over)
    if wide(input).dtype != jnp.float32 or not input.size:
        return plain(input)
    return lax.platform_dependent(input, tpu=partial(moments_by_products, axes=over), default=plain)


def _plain_moments(input: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    return moments(wide(input), axes)


def moments_by_products(input: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Return mean and variance over the last dimensions `axes`, in float32, both as exact as sums in float32.

    Products of bfloat16 with ones are exact, and those of float32 are asked to be.
    """
    value = wide(input)
    mean = _mean_by_product(input, axes) if input.dtype == jnp.bfloat16 else jnp.mean(value, axis=axes, keepdims=True)
    # Exact products are made of parts in bfloat16, of which infinity has none: its parts would add up to nan.
    squares = jnp.minimum(jnp.square(value - mean), float(jnp.finfo(jnp.bfloat16).max))
    return mean, _mean_by_product(squares, axes)


def _mean_by_product(value: Array, axes: Sequence[int]) -> Array:
    sizes = [value.shape[axis] for axis in axes]
    ones = jnp.ones((*sizes, _COLUMNS), value.dtype)
    sums = lax.dot_general(
        value, ones, ((tuple(axes), tuple(range(len(axes)))), ((), ())),
        precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32,
    )  # fmt: skip
    return jnp.expand_dims(sums[..., 0] / math.prod(sizes), axes)
