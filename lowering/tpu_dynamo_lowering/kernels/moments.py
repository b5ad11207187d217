"""Means and variances: in two passes, and over rows by the matrix unit where there is one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import jax.numpy as jnp
from jax import Array, lax

from ..target import Target
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


def refined_moments(value: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Return mean and variance over `axes`, kept as dimensions of size 1, as exact where the mean is large.

    The mean of what a first mean leaves over is what that lost in summing.
    """
    mean, variance = moments(value, axes)
    rest = jnp.mean(value - mean, axis=axes, keepdims=True)
    return mean + rest, variance - jnp.square(rest)


def _scaled_differences(value: Array, mean: Array, factor: Array, bias: Array) -> Array:
    return (value - mean) * factor + bias


def scaled_deviations(
    value: Array,
    mean: Array,
    factor: Array,
    bias: Array,
    compiled_for: Target,
    elsewhere: Callable[..., Array] = _scaled_differences,
) -> Array:
    """Return (value - mean) * factor + bias; of float32 on a CPU with one rounding of an element.

    mean, factor, bias: broadcastable to `value`, and with fewer elements. elsewhere: computes it on other devices.
    """
    on_a_cpu = value.dtype == jnp.float32 and compiled_for.platform == "cpu"
    return (_scaled_and_shifted if on_a_cpu else elsewhere)(value, mean, factor, bias)


def _scaled_and_shifted(value: Array, mean: Array, factor: Array, bias: Array) -> Array:
    """Return value * factor + (bias - mean * factor).

    A CPU adds to a product without rounding that, as eager does; a difference from the mean would be rounded before.
    The shift is a pair of numbers: one alone errs by the last digits of a large mean.
    """
    factor = factor.astype(value.dtype)
    exact = bias - mean.astype(jnp.float64) * factor
    shift = exact.astype(value.dtype)
    rest = jnp.where(jnp.isfinite(shift), (exact - shift).astype(value.dtype), 0)
    # XLA would compute them again for each element.
    factor, shift, rest = lax.optimization_barrier((factor, shift, rest))
    return (value * factor + shift) + rest


def row_moments(input: Array, last: int) -> tuple[Array, Array]:
    """Return mean and variance over the `last` dimensions, kept as dimensions of size 1; half precision in float32.

    On a CPU the mean of float32 is refined. On a TPU a sum over the last dimension takes three times as long as a
    product with ones, unless it is fused into the product that makes the row: the second of two passes never is.
    """
    over = tuple(range(input.ndim - last, input.ndim))
    plain = partial(_plain_moments, axes=over)
    if wide(input).dtype != jnp.float32 or not input.size:
        return plain(input)
    cpu = partial(refined_moments, axes=over) if input.dtype == jnp.float32 else plain
    return lax.platform_dependent(input, tpu=partial(moments_by_products, axes=over), cpu=cpu, default=plain)


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
