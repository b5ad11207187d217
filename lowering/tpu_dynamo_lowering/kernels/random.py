"""Random numbers, functional in a key: XLA's Philox generator, and PyTorch's distributions from its bits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import Array, lax

from ..table import random_kernel
from .dtypes import jax_dtype

aten = torch.ops.aten
prims = torch.ops.prims

Shape = Sequence[Any]
# The bits of a float's significand: a uniform number has so many, so that it is below one in its own format.
_DIGITS = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}


def _bits(key: Array, shape: Shape, width: int) -> Array:
    """Uniform unsigned integers of 32 or 64 bits."""
    state = lax.bitcast_convert_type(key, jnp.uint64)
    state = jnp.concatenate([state, jnp.zeros((1,), jnp.uint64)])  # Philox: the key, then a counter from zero
    dtype = jnp.uint64 if width == 64 else jnp.uint32
    return lax.rng_bit_generator(state, tuple(shape), dtype, algorithm=lax.RandomAlgorithm.RNG_PHILOX)[1]


def _uniform(key: Array, shape: Shape, dtype: np.dtype[Any], open_below: bool = False) -> Array:
    """Uniform in [0, 1), or in (0, 1) where a logarithm follows, with all digits that the format has."""
    digits = _DIGITS.get(dtype.name, 24)
    width = 64 if digits > 24 else 32
    wide = jnp.float64 if width == 64 else jnp.float32
    whole = (_bits(key, shape, width) >> (width - digits)).astype(wide)
    return (whole + 0.5 if open_below else whole) * 2.0**-digits


def _normal(key: Array, shape: Shape, dtype: np.dtype[Any]) -> Array:
    wide = np.dtype(jnp.float64) if dtype == jnp.float64 else np.dtype(jnp.float32)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        parts = _normal(key, (2, *shape), np.dtype(jnp.float64 if dtype == jnp.complex128 else jnp.float32))
        return lax.complex(parts[0], parts[1]) * math.sqrt(0.5)
    return math.sqrt(2) * lax.erf_inv(2 * _uniform(key, shape, wide, open_below=True) - 1)


def _exponential(key: Array, shape: Shape, dtype: np.dtype[Any]) -> Array:
    wide = np.dtype(jnp.float64) if dtype == jnp.float64 else np.dtype(jnp.float32)
    return -jnp.log(_uniform(key, shape, wide, open_below=True))


def _dtype(dtype: torch.dtype | None) -> np.dtype[Any]:
    return jax_dtype(torch.get_default_dtype() if dtype is None else dtype)


def _like(self: Array, dtype: torch.dtype | None) -> np.dtype[Any]:
    return np.dtype(self.dtype) if dtype is None else jax_dtype(dtype)


def _jax_key(key: Array) -> Array:
    """A key of jax.random's, whose bits come from the same XLA generator."""
    words = lax.bitcast_convert_type(key[0], jnp.uint32)
    return jax.random.wrap_key_data(jnp.concatenate([words, jnp.zeros((2,), jnp.uint32)]), impl="rbg")


@random_kernel(aten.rand.default, aten.rand.generator)
def rand(key: Array, size: Shape, dtype: torch.dtype | None) -> Array:
    """Uniform in [0, 1)."""
    return _uniform_of(key, size, _dtype(dtype))


def _uniform_of(key: Array, size: Shape, dtype: np.dtype[Any]) -> Array:
    if jnp.issubdtype(dtype, jnp.complexfloating):
        parts = _uniform(key, (2, *size), np.dtype(jnp.float64 if dtype == jnp.complex128 else jnp.float32))
        return lax.complex(parts[0], parts[1])
    return _uniform(key, size, dtype)


@random_kernel(aten.rand_like.default, aten.rand_like.generator)
def rand_like(key: Array, self: Array, dtype: torch.dtype | None) -> Array:
    """Uniform in [0, 1), in another tensor's shape."""
    return _uniform_of(key, self.shape, _like(self, dtype))


@random_kernel(aten.uniform.default)
def uniform(key: Array, self: Array, from_: float, to: float) -> Array:
    """Uniform in [from, to)."""
    return from_ + (to - from_) * _uniform(key, self.shape, np.dtype(self.dtype))


@random_kernel(aten.randn.default, aten.randn.generator)
def randn(key: Array, size: Shape, dtype: torch.dtype | None) -> Array:
    """Normal with mean 0 and deviation 1; complex numbers have variance 1 in all."""
    return _normal(key, size, _dtype(dtype))


@random_kernel(aten.randn_like.default, aten.randn_like.generator)
def randn_like(key: Array, self: Array, dtype: torch.dtype | None) -> Array:
    """Normal with mean 0 and deviation 1, in another tensor's shape."""
    return _normal(key, self.shape, _like(self, dtype))


@random_kernel(aten.normal_functional.default)
def normal_functional(key: Array, self: Array, mean: float, std: float) -> Array:
    """Normal with a mean and a deviation, in another tensor's shape."""
    return mean + std * _normal(key, self.shape, np.dtype(self.dtype))


@random_kernel(aten.normal.float_float)
def normal(key: Array, mean: float, std: float, size: Shape, dtype: torch.dtype | None) -> Array:
    """Normal with a mean and a deviation."""
    return mean + std * _normal(key, size, _dtype(dtype))


@random_kernel(prims.normal.default)
def prims_normal(key: Array, shape: Shape, mean: float, std: float, dtype: torch.dtype) -> Array:
    """Normal with a mean and a deviation."""
    return mean + std * _normal(key, shape, jax_dtype(dtype))


@random_kernel(aten.normal.Tensor_float, aten.normal.float_Tensor, aten.normal.Tensor_Tensor)
def normal_tensors(key: Array, mean: Any, std: Any) -> Array:
    """Normal with means and deviations from tensors, broadcast together."""
    mean, std = jnp.asarray(mean), jnp.asarray(std)
    shape = jnp.broadcast_shapes(mean.shape, std.shape)
    return mean + std * _normal(key, shape, np.dtype((mean if mean.ndim else std).dtype))


def _integers(key: Array, shape: Shape, low: int, high: int) -> Array:
    # 64 bits modulo the span: the bias is at most span / 2**64.
    span = jnp.asarray(max(high - low, 1), jnp.uint64)
    return (_bits(key, shape, 64) % span).astype(jnp.int64) + low


@random_kernel(aten.randint.default, aten.randint.generator)
def randint(key: Array, high: int, size: Shape) -> Array:
    """Whole numbers in [0, high)."""
    return _integers(key, size, 0, high)


@random_kernel(aten.randint.low, aten.randint.low_generator)
def randint_low(key: Array, low: int, high: int, size: Shape) -> Array:
    """Whole numbers in [low, high)."""
    return _integers(key, size, low, high)


@random_kernel(aten.randint_like.default, aten.randint_like.generator)
def randint_like(key: Array, self: Array, high: int) -> Array:
    """Whole numbers in [0, high), in another tensor's shape."""
    return _integers(key, self.shape, 0, high)


@random_kernel(aten.randint_like.low_dtype, aten.randint_like.low_generator_dtype)
def randint_like_low(key: Array, self: Array, low: int, high: int) -> Array:
    """Whole numbers in [low, high), in another tensor's shape."""
    return _integers(key, self.shape, low, high)


@random_kernel(aten.randint_like.Tensor, aten.randint_like.Tensor_generator)
def randint_like_tensor(key: Array, self: Array, high: Array) -> Array:
    """Whole numbers in [0, high) for a bound that is a tensor."""
    return (_bits(key, self.shape, 64) % high.astype(jnp.uint64)).astype(jnp.int64)


def _whole_numbers(dtype: np.dtype[Any]) -> int:
    """One more than the largest that `Tensor.random_()` draws: all that the format holds exactly."""
    if dtype == jnp.bool_:
        return 2
    if jnp.issubdtype(dtype, jnp.integer):
        return min(int(jnp.iinfo(dtype).max), 2**63 - 2) + 1
    return 2 ** _DIGITS[dtype.name] + 1


@random_kernel(aten.random.default)
def random(key: Array, self: Array) -> Array:
    """Whole numbers from 0 to the largest of the dtype."""
    return _integers(key, self.shape, 0, _whole_numbers(np.dtype(self.dtype)))


@random_kernel(aten.random.to)
def random_to(key: Array, self: Array, to: int) -> Array:
    """Whole numbers in [0, to)."""
    return _integers(key, self.shape, 0, to)


@random_kernel(getattr(aten.random, "from"))
def random_from(key: Array, self: Array, from_: int, to: int | None) -> Array:
    """Whole numbers in [from, to)."""
    return _integers(key, self.shape, from_, _whole_numbers(np.dtype(self.dtype)) if to is None else to)


@random_kernel(aten.randperm.default, aten.randperm.generator)
def randperm(key: Array, n: int) -> Array:
    """0 to n - 1 in random order: sorted by random keys, whose ties are too rare to matter."""
    order = lax.iota(jnp.int64, n)
    return lax.sort((_bits(key, (n,), 64), order), num_keys=1)[1]


def _chances(key: Array, shape: Shape, probability: Any) -> Array:
    wide = jnp.float64 if getattr(probability, "dtype", None) == jnp.float64 else jnp.float32
    return _uniform(key, shape, np.dtype(wide)) < probability


@random_kernel(aten.bernoulli.default)
def bernoulli(key: Array, self: Array) -> Array:
    """1 with the probability that stands at each place, else 0."""
    return _chances(key, self.shape, self)


@random_kernel(aten.bernoulli.p, aten.bernoulli.Tensor)
def bernoulli_p(key: Array, self: Array, p: Any) -> Array:
    """1 with probability p, else 0, in another tensor's shape."""
    return _chances(key, self.shape, p)


@random_kernel(aten.native_dropout.default)
def native_dropout(key: Array, input: Array, p: float, train: bool | None) -> tuple[Array, Array]:
    """The input with each value dropped with probability p and the rest scaled up, and which were kept."""
    if train is False:
        return input, jnp.ones(input.shape, jnp.bool_)
    kept = _chances(key, input.shape, 1 - p)
    scale = 0.0 if p == 1 else 1 / (1 - p)
    return jnp.where(kept, input * jnp.asarray(scale, input.dtype), jnp.zeros_like(input)), kept


@random_kernel(aten.exponential.default)
def exponential(key: Array, self: Array, lambd: float) -> Array:
    """Exponential with a rate; never zero."""
    return _exponential(key, self.shape, np.dtype(self.dtype)) / lambd


@random_kernel(aten.cauchy.default)
def cauchy(key: Array, self: Array, median: float, sigma: float) -> Array:
    """Cauchy with a median and a half width."""
    u = _uniform(key, self.shape, np.dtype(jnp.float64 if self.dtype == jnp.float64 else jnp.float32), open_below=True)
    return median + sigma * jnp.tan(math.pi * (u - 0.5))


@random_kernel(aten.log_normal.default)
def log_normal(key: Array, self: Array, mean: float, std: float) -> Array:
    """exp of a normal number."""
    return jnp.exp(mean + std * _normal(key, self.shape, np.dtype(self.dtype)))


@random_kernel(aten.geometric.default)
def geometric(key: Array, self: Array, p: float) -> Array:
    """How many trials of probability p until the first success, at least 1."""
    drawn = _exponential(key, self.shape, np.dtype(self.dtype)) / -math.log1p(-p) if p < 1 else jnp.zeros(self.shape)
    return jnp.maximum(jnp.ceil(drawn), 1)


@random_kernel(aten.multinomial.default)
def multinomial(key: Array, self: Array, num_samples: int, replacement: bool) -> Array:
    """Positions drawn with the weights of a row, with or without putting them back.

    Without: the largest of log(weight) + Gumbel noise, which is drawing one after the other.
    """
    weights = self.astype(jnp.float64 if self.dtype == jnp.float64 else jnp.float32)
    if not replacement:
        noise = -jnp.log(_exponential(key, weights.shape, np.dtype(weights.dtype)))
        return lax.top_k(jnp.log(weights) + noise, num_samples)[1]
    rows = weights.reshape(-1, weights.shape[-1])
    total = jnp.cumsum(rows, axis=-1)
    u = _uniform(key, (len(rows), num_samples), np.dtype(weights.dtype)) * total[:, -1:]
    found = jax.vmap(lambda ends, x: jnp.searchsorted(ends, x, side="right"))(total, u)
    # Rounding may carry a number past the last weight that is not zero.
    last = weights.shape[-1] - 1 - jnp.argmax(rows[:, ::-1] > 0, axis=-1)
    return jnp.minimum(found, last[:, None]).reshape(*weights.shape[:-1], num_samples)


@random_kernel(aten.poisson.default)
def poisson(key: Array, self: Array) -> Array:
    """Poisson with the rate that stands at each place."""
    drawn = jax.random.poisson(
        jax.random.key(jax.random.bits(_jax_key(key), dtype=jnp.uint32), impl="threefry2x32"), self.astype(jnp.float32)
    )
    return drawn.astype(jnp.float32)


@random_kernel(aten.binomial.default)
def binomial(key: Array, count: Array, prob: Array) -> Array:
    """How many of `count` trials of probability `prob` succeed."""
    dtype = jnp.float64 if count.dtype == jnp.float64 else jnp.float32
    return jax.random.binomial(_jax_key(key), count.astype(dtype), prob.astype(dtype), dtype=dtype)


@random_kernel(aten._standard_gamma.default)
def standard_gamma(key: Array, self: Array) -> Array:
    """Gamma with the shape parameter that stands at each place and scale 1."""
    return jax.random.gamma(_jax_key(key), self.astype(jnp.float64 if self.dtype == jnp.float64 else jnp.float32))


@random_kernel(aten._sample_dirichlet.default)
def sample_dirichlet(key: Array, self: Array) -> Array:
    """Dirichlet with the concentrations of the last dimension."""
    wide = self.astype(jnp.float64 if self.dtype == jnp.float64 else jnp.float32)
    logs = jax.random.loggamma(_jax_key(key), wide)
    return jax.nn.softmax(logs, axis=-1)


@random_kernel(aten.rrelu_with_noise_functional.default)
def rrelu_with_noise(
    key: Array, self: Array, noise: Array, lower: float, upper: float, training: bool
) -> tuple[Array, Array]:
    """Leaky relu with a slope drawn for each negative value, or the middle one outside training; and the slopes."""
    if not training:
        slope = jnp.asarray((lower + upper) / 2, self.dtype)
        return jnp.where(self > 0, self, self * slope), noise
    drawn = lower + (upper - lower) * _uniform(key, self.shape, np.dtype(jnp.float32))
    slopes = jnp.where(self <= 0, drawn.astype(self.dtype), jnp.ones_like(self))
    return self * slopes, slopes
