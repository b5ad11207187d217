"""Uniform, normal and integer random numbers, as functions of a key."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from jax import Array, lax

from ..table import random_kernel
from .dtypes import jax_dtype
from .random_bits import DIGITS, Shape, random_bits, standard_normal, unit_interval

aten = torch.ops.aten
prims = torch.ops.prims


def _dtype(dtype: torch.dtype | None) -> np.dtype[Any]:
    return jax_dtype(torch.get_default_dtype() if dtype is None else dtype)


def _like(self: Array, dtype: torch.dtype | None) -> np.dtype[Any]:
    return np.dtype(self.dtype) if dtype is None else jax_dtype(dtype)


@random_kernel(aten.rand.default, aten.rand.generator)
def rand(key: Array, size: Shape, dtype: torch.dtype | None) -> Array:
    """Draw uniform numbers in [0, 1)."""
    return _uniform_of(key, size, _dtype(dtype))


def _uniform_of(key: Array, size: Shape, dtype: np.dtype[Any]) -> Array:
    if jnp.issubdtype(dtype, jnp.complexfloating):
        parts = unit_interval(key, (2, *size), np.dtype(jnp.float64 if dtype == jnp.complex128 else jnp.float32))
        return lax.complex(parts[0], parts[1])
    return unit_interval(key, size, dtype)


@random_kernel(aten.rand_like.default, aten.rand_like.generator)
def rand_like(key: Array, self: Array, dtype: torch.dtype | None) -> Array:
    """Draw uniform numbers in [0, 1) in `self`'s shape."""
    return _uniform_of(key, self.shape, _like(self, dtype))


@random_kernel(aten.uniform.default)
def uniform(key: Array, self: Array, from_: float, to: float) -> Array:
    """Draw uniform numbers in [from, to), for complex dtypes both parts, in `self`'s shape.

    Raises ValueError for from > to.
    """
    if from_ > to:
        raise ValueError(f"uniform_ expects to return a [from, to) range, but found from={from_} > to={to}")
    drawn = _uniform_of(key, self.shape, np.dtype(self.dtype))
    low = complex(from_, from_) if jnp.iscomplexobj(self) else from_
    return low + (to - from_) * drawn


@random_kernel(aten.randn.default, aten.randn.generator)
def randn(key: Array, size: Shape, dtype: torch.dtype | None) -> Array:
    """Draw normal numbers with mean 0 and variance 1; complex ones have variance 1/2 in each part."""
    return standard_normal(key, size, _dtype(dtype))


@random_kernel(aten.randn_like.default, aten.randn_like.generator)
def randn_like(key: Array, self: Array, dtype: torch.dtype | None) -> Array:
    """Draw normal numbers with mean 0 and variance 1 in `self`'s shape."""
    return standard_normal(key, self.shape, _like(self, dtype))


def _normal_of(key: Array, shape: Shape, mean: float, std: float, dtype: np.dtype[Any]) -> Array:
    # Both parts of a complex number have the mean. Source: ATen `normal_impl_`.
    centre = complex(mean, mean) if jnp.issubdtype(dtype, jnp.complexfloating) else mean
    return centre + std * standard_normal(key, shape, dtype)


@random_kernel(aten.normal_functional.default)
def normal_functional(key: Array, self: Array, mean: float, std: float) -> Array:
    """Draw normal numbers with the given mean and deviation in `self`'s shape."""
    return _normal_of(key, self.shape, mean, std, np.dtype(self.dtype))


@random_kernel(aten.normal.float_float)
def normal(key: Array, mean: float, std: float, size: Shape, dtype: torch.dtype | None) -> Array:
    """Draw normal numbers with the given mean and deviation."""
    return _normal_of(key, size, mean, std, _dtype(dtype))


@random_kernel(prims.normal.default)
def prims_normal(key: Array, shape: Shape, mean: float, std: float, dtype: torch.dtype) -> Array:
    """Draw normal numbers with the given mean and deviation."""
    return _normal_of(key, shape, mean, std, jax_dtype(dtype))


@random_kernel(aten.normal.Tensor_float, aten.normal.float_Tensor, aten.normal.Tensor_Tensor)
def normal_tensors(key: Array, mean: Any, std: Any) -> Array:
    """Draw normal numbers with means and deviations from tensors, broadcast together."""
    mean, std = jnp.asarray(mean), jnp.asarray(std)
    shape = jnp.broadcast_shapes(mean.shape, std.shape)
    return mean + std * standard_normal(key, shape, np.dtype((mean if mean.ndim else std).dtype))


def _integers(key: Array, shape: Shape, low: int, high: int) -> Array:
    if low >= high:
        raise ValueError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    # 64 bits modulo the span: the bias is at most span / 2**64.
    span = jnp.asarray(high - low, jnp.uint64)
    return (random_bits(key, shape, 64) % span).astype(jnp.int64) + low


@random_kernel(aten.randint.default, aten.randint.generator)
def randint(key: Array, high: int, size: Shape) -> Array:
    """Draw integers in [0, high).

    Raises ValueError if that range is empty.
    """
    return _integers(key, size, 0, high)


@random_kernel(aten.randint.low, aten.randint.low_generator)
def randint_low(key: Array, low: int, high: int, size: Shape) -> Array:
    """Draw integers in [low, high).

    Raises ValueError if that range is empty.
    """
    return _integers(key, size, low, high)


@random_kernel(aten.randint_like.default, aten.randint_like.generator)
def randint_like(key: Array, self: Array, high: int) -> Array:
    """Draw integers in [0, high) in `self`'s shape."""
    return _integers(key, self.shape, 0, high)


@random_kernel(aten.randint_like.low_dtype, aten.randint_like.low_generator_dtype)
def randint_like_low(key: Array, self: Array, low: int, high: int) -> Array:
    """Draw integers in [low, high) in `self`'s shape."""
    return _integers(key, self.shape, low, high)


@random_kernel(aten.randint_like.Tensor, aten.randint_like.Tensor_generator)
def randint_like_tensor(key: Array, self: Array, high: Array) -> Array:
    """Draw integers in [0, high) in `self`'s shape, the bound being a tensor."""
    return (random_bits(key, self.shape, 64) % high.astype(jnp.uint64)).astype(jnp.int64)


def _random_bound(dtype: np.dtype[Any]) -> int:
    """Return the exclusive bound of `Tensor.random_()`: one more than the largest integer that it draws in a dtype.

    Floats are drawn up to the last of the integers that they all hold exactly.
    """
    if dtype == jnp.bool_:
        return 2
    if jnp.issubdtype(dtype, jnp.integer):
        return min(int(jnp.iinfo(dtype).max), 2**63 - 2) + 1
    return 2 ** DIGITS[dtype.name] + 1


@random_kernel(aten.random.default)
def random(key: Array, self: Array) -> Array:
    """Draw integers from 0 up to the largest that the dtype holds exactly, in `self`'s shape."""
    return _integers(key, self.shape, 0, _random_bound(np.dtype(self.dtype)))


@random_kernel(aten.random.to)
def random_to(key: Array, self: Array, to: int) -> Array:
    """Draw integers in [0, to) in `self`'s shape."""
    return _integers(key, self.shape, 0, to)


@random_kernel(getattr(aten.random, "from"))
def random_from(key: Array, self: Array, from_: int, to: int | None) -> Array:
    """Draw integers in [from, to) in `self`'s shape; without `to`, up to the largest that the dtype holds exactly."""
    return _integers(key, self.shape, from_, _random_bound(np.dtype(self.dtype)) if to is None else to)


@random_kernel(aten.randperm.default, aten.randperm.generator)
def randperm(key: Array, n: int) -> Array:
    """Return 0 to n - 1 in random order: sorted by random 64-bit keys, whose ties are too rare to matter."""
    order = lax.iota(jnp.int64, n)
    return lax.sort((random_bits(key, (n,), 64), order), num_keys=1)[1]
