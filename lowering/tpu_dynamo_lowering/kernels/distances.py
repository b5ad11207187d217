"""Distances between vectors: all pairs of two sets, or of one, and their gradients."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import torch
from jax import Array

from ..table import kernel

aten = torch.ops.aten


def _norm(difference: Array, p: float) -> Array:
    size = jnp.abs(difference)
    if p == 0:
        return jnp.sum(size != 0, axis=-1).astype(size.dtype)
    if p == 1:
        return jnp.sum(size, axis=-1)
    if p == 2:
        return jnp.sqrt(jnp.sum(size * size, axis=-1))
    if p == float("inf"):
        return jnp.max(size, axis=-1, initial=0)
    return jnp.power(jnp.sum(jnp.power(size, p), axis=-1), 1 / p)


def _norm_gradient(gradient: Array, difference: Array, p: float, distance: Array) -> Array:
    """Compute the gradient of each pair's difference; zero where the distance is zero, as PyTorch chooses there.

    Source: aten/src/ATen/native/cpu/DistanceOpsKernel.cpp.
    """
    gradient, distance = gradient[..., None], distance[..., None]
    size, sign = jnp.abs(difference), jnp.sign(difference)
    if p == 0:
        return jnp.zeros_like(difference)
    if p == 1:
        return gradient * sign
    if p == float("inf"):
        return gradient * sign * (size == distance)
    apart = distance != 0
    safe = jnp.where(apart, distance, 1)
    if p == 2:
        return jnp.where(apart, gradient * difference / safe, 0)
    power = jnp.where(size != 0, jnp.power(jnp.where(size != 0, size, 1), p - 1), 0)
    return jnp.where(apart, sign * power * gradient / jnp.power(safe, p - 1), 0)


def _pairs(x1: Array, x2: Array) -> Array:
    return x1[..., :, None, :] - x2[..., None, :, :]


@kernel(aten._cdist_forward.default)
def cdist_forward(x1: Array, x2: Array, p: float, compute_mode: int | None) -> Array:
    """Return the p-norm distances between every vector of `x1` and every vector of `x2`.

    x1: [..., m, d]; x2: [..., n, d]; result: [..., m, n], the batches broadcast. `compute_mode` changes nothing here.
    """
    return _norm(_pairs(x1, x2), p)


@kernel(aten._cdist_backward.default)
def cdist_backward(grad: Array, /, x1: Array, x2: Array, p: float, cdist: Array) -> Array:
    """Compute the gradient of cdist's `x1` from the gradient of the distances."""
    return jnp.sum(_norm_gradient(grad, _pairs(x1, x2), p, cdist), axis=-2)


def _each_pair(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.triu_indices(n, 1)


@kernel(aten._pdist_forward.default)
def pdist_forward(self: Array, p: float = 2.0) -> Array:
    """Return the p-norm distance of each pair of rows.

    self: [n, d]; result: [n * (n - 1) / 2], the pairs in the row-major order of a strict upper triangle.
    """
    if self.shape[0] < 2:
        return jnp.zeros(0, self.dtype)
    first, second = _each_pair(self.shape[0])
    return _norm(self[first] - self[second], p)


@kernel(aten._pdist_backward.default)
def pdist_backward(grad: Array, /, self: Array, p: float, pdist: Array) -> Array:
    """Compute the gradient of pdist's rows from the gradient of their distances."""
    first, second = _each_pair(self.shape[0])
    change = _norm_gradient(grad, self[first] - self[second], p, pdist)
    return jnp.zeros_like(self).at[first].add(change).at[second].add(-change)
