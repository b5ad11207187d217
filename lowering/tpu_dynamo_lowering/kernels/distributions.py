"""Distributions other than uniform and normal, drawn from a key."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import Array, lax

from ..table import random_kernel
from .random_bits import Shape, jax_key, standard_exponential, standard_normal, unit_interval

aten = torch.ops.aten


def _true_with_probability(key: Array, shape: Shape, probability: Any) -> Array:
    wide = jnp.float64 if getattr(probability, "dtype", None) == jnp.float64 else jnp.float32
    return unit_interval(key, shape, np.dtype(wide)) < probability


@random_kernel(aten.bernoulli.default)
def bernoulli(key: Array, self: Array) -> Array:
    """Draw 1 with the probability that `self` has at each place, else 0."""
    return _true_with_probability(key, self.shape, self)


@random_kernel(aten.bernoulli.p, aten.bernoulli.Tensor)
def bernoulli_p(key: Array, self: Array, p: Any) -> Array:
    """Draw 1 with probability `p`, else 0, in `self`'s shape.

    Raises ValueError for a number `p` outside [0, 1].
    """
    if isinstance(p, int | float) and not 0 <= p <= 1:
        raise ValueError(f"bernoulli_ expects p to be in [0, 1], but got p={p}")
    return _true_with_probability(key, self.shape, p)


@random_kernel(aten.native_dropout.default)
def native_dropout(key: Array, input: Array, p: float, train: bool | None) -> tuple[Array, Array]:
    """Set each value to zero with probability `p` and scale the others by 1 / (1 - p); also return which were kept."""
    if train is False:
        return input, jnp.ones(input.shape, jnp.bool_)
    kept = _true_with_probability(key, input.shape, 1 - p)
    scale = 0.0 if p == 1 else 1 / (1 - p)
    return jnp.where(kept, input * jnp.asarray(scale, input.dtype), jnp.zeros_like(input)), kept


@random_kernel(aten.exponential.default)
def exponential(key: Array, self: Array, lambd: float) -> Array:
    """Draw from the exponential distribution with rate `lambd`, never zero, in `self`'s shape."""
    return standard_exponential(key, self.shape, np.dtype(self.dtype)) / lambd


@random_kernel(aten.cauchy.default)
def cauchy(key: Array, self: Array, median: float, sigma: float) -> Array:
    """Draw from the Cauchy distribution with the given median and half width `sigma`, in `self`'s shape."""
    u = unit_interval(
        key, self.shape, np.dtype(jnp.float64 if self.dtype == jnp.float64 else jnp.float32), open_below=True
    )
    return median + sigma * jnp.tan(math.pi * (u - 0.5))


@random_kernel(aten.log_normal.default)
def log_normal(key: Array, self: Array, mean: float, std: float) -> Array:
    """Draw exp of normal numbers with the given mean and deviation, in `self`'s shape."""
    return jnp.exp(mean + std * standard_normal(key, self.shape, np.dtype(self.dtype)))


@random_kernel(aten.geometric.default)
def geometric(key: Array, self: Array, p: float) -> Array:
    """Draw the number of trials of probability `p` up to the first success, at least 1, in `self`'s shape."""
    drawn = (
        standard_exponential(key, self.shape, np.dtype(self.dtype)) / -math.log1p(-p)
        if p < 1
        else jnp.zeros(self.shape)
    )
    return jnp.maximum(jnp.ceil(drawn), 1)


@random_kernel(aten.multinomial.default)
def multinomial(key: Array, self: Array, num_samples: int, replacement: bool) -> Array:
    """Draw `num_samples` positions of each row, weighted by its values, with or without replacement.

    self: [categories] or [rows, categories]; result: [..., num_samples]. Without replacement the positions are those of
    the largest log(weight) + Gumbel noise, which has the distribution of drawing one after the other. Raises ValueError
    for more samples than categories without replacement.
    """
    weights = self.astype(jnp.float64 if self.dtype == jnp.float64 else jnp.float32)
    if not replacement:
        if num_samples > weights.shape[-1]:
            raise ValueError(
                f"multinomial cannot draw {num_samples} of {weights.shape[-1]} categories without replacement"
            )
        noise = -jnp.log(standard_exponential(key, weights.shape, np.dtype(weights.dtype)))
        return lax.top_k(jnp.log(weights) + noise, num_samples)[1]
    rows = weights.reshape(-1, weights.shape[-1])
    total = jnp.cumsum(rows, axis=-1)
    u = unit_interval(key, (len(rows), num_samples), np.dtype(weights.dtype)) * total[:, -1:]
    found = jax.vmap(lambda ends, x: jnp.searchsorted(ends, x, side="right"))(total, u)
    # Rounding may carry a number past the last weight that is not zero.
    last = weights.shape[-1] - 1 - jnp.argmax(rows[:, ::-1] > 0, axis=-1)
    return jnp.minimum(found, last[:, None]).reshape(*weights.shape[:-1], num_samples)


@random_kernel(aten.poisson.default)
def poisson(key: Array, self: Array) -> Array:
    """Draw from the Poisson distribution with the rate that `self` has at each place."""
    drawn = jax.random.poisson(
        jax.random.key(jax.random.bits(jax_key(key), dtype=jnp.uint32), impl="threefry2x32"), self.astype(jnp.float32)
    )
    return drawn.astype(jnp.float32)


@random_kernel(aten.binomial.default)
def binomial(key: Array, count: Array, prob: Array) -> Array:
    """Draw the number of successes among `count` trials of probability `prob`; nan where either is nan.

    Certain results (no trial, probability 0 or 1, infinitely many trials) are not drawn: JAX's algorithm would not end
    for infinitely many trials that never succeed.
    """
    dtype = jnp.float64 if count.dtype == jnp.float64 else jnp.float32
    count, prob = count.astype(dtype), prob.astype(dtype)
    unknown = jnp.isnan(count) | jnp.isnan(prob)
    none, every = (count <= 0) | (prob <= 0), prob >= 1
    certain = unknown | none | every | jnp.isinf(count)
    drawn = jax.random.binomial(jax_key(key), jnp.where(certain, 1, count), jnp.where(certain, 0.5, prob), dtype=dtype)
    known = jnp.where(none, 0, jnp.where(certain, count, drawn))
    return jnp.where(unknown, jnp.nan, known)


@random_kernel(aten._standard_gamma.default)
def standard_gamma(key: Array, self: Array) -> Array:
    """Draw from the gamma distribution with scale 1 and the shape parameter that `self` has at each place."""
    return jax.random.gamma(jax_key(key), self.astype(jnp.float64 if self.dtype == jnp.float64 else jnp.float32))


@random_kernel(aten._sample_dirichlet.default)
def sample_dirichlet(key: Array, self: Array) -> Array:
    """Draw from the Dirichlet distribution whose concentrations are the last dimension."""
    wide = self.astype(jnp.float64 if self.dtype == jnp.float64 else jnp.float32)
    logs = jax.random.loggamma(jax_key(key), wide)
    return jax.nn.softmax(logs, axis=-1)


@random_kernel(aten.rrelu_with_noise_functional.default)
def rrelu_with_noise(
    key: Array, self: Array, noise: Array, lower: float, upper: float, training: bool
) -> tuple[Array, Array]:
    """Multiply negative values by random slopes in [lower, upper), in inference by the middle; also return the slopes.

    In inference `noise` is returned in their place. Source: ATen `rrelu_with_noise_functional`.
    """
    if not training:
        slope = jnp.asarray((lower + upper) / 2, self.dtype)
        return jnp.where(self > 0, self, self * slope), noise
    drawn = lower + (upper - lower) * unit_interval(key, self.shape, np.dtype(jnp.float32))
    slopes = jnp.where(self <= 0, drawn.astype(self.dtype), jnp.ones_like(self))
    return self * slopes, slopes
