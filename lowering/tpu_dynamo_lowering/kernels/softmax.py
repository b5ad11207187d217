"""Softmax and its logarithm, forward and backward; half precision is computed in float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from .reductions import wide

aten = torch.ops.aten


@kernel(aten._softmax.default)
def softmax(self: Array, dim: int, half_to_float: bool) -> Array:
    """Return the softmax along one dimension."""
    return jax.nn.softmax(wide(self), axis=dim) if self.ndim else jnp.ones_like(self)


@kernel(aten._safe_softmax.default)
def safe_softmax(self: Array, dim: int, dtype: torch.dtype | None = None) -> Array:
    """Return the softmax over `dim`, with zeros instead of nan in a row of -inf."""
    moved = jnp.moveaxis(wide(self), dim, -1)
    return jnp.moveaxis(softmax_with_normaliser(moved)[0], -1, dim)


def softmax_with_normaliser(scores: Array) -> tuple[Array, Array]:
    """Return the softmax over the last dimension, zeros in a row of -inf, and the log of its denominator."""
    exponentials, total, normaliser = exponentials_of(scores)
    return exponentials / total, normaliser


def exponentials_of(scores: Array) -> tuple[Array, Array, Array]:
    """Return the numerators of softmax over the last dimension, their sums, [..., 1], and the logs of these, [...].

    Of a row of -inf the numerators are zeros, their sum one and its logarithm -inf. Nothing tests the values: a row's
    largest score is at least the least finite number, so that all exponentials of a row of -inf are zero, and any other
    row's largest exponential is one. libtpu fuses that with the products around it, and makes passes of its own for
    tests.
    """
    least = float(jnp.finfo(scores.dtype).min)
    top = jnp.expand_dims(lax.reduce(scores, jnp.asarray(least, scores.dtype), lax.max, (scores.ndim - 1,)), -1)
    exponentials = jnp.exp(scores - top)
    total = jnp.sum(exponentials, axis=-1, keepdims=True)
    return exponentials, jnp.maximum(total, 1), jnp.squeeze(jnp.log(total) + top, -1)


@kernel(aten._log_softmax.default)
def log_softmax(self: Array, dim: int, half_to_float: bool) -> Array:
    """Return the logarithm of the softmax along one dimension."""
    return jax.nn.log_softmax(wide(self), axis=dim) if self.ndim else jnp.zeros_like(self)


@kernel(aten._softmax_backward_data.default)
def softmax_backward(grad_output: Array, output: Array, dim: int, input_dtype: torch.dtype) -> Array:
    """Compute the gradient of softmax's input from its output."""
    weighted = wide(grad_output) * wide(output)
    if not weighted.ndim:
        return jnp.zeros_like(weighted)
    return weighted - wide(output) * jnp.sum(weighted, axis=dim, keepdims=True)


@kernel(aten._log_softmax_backward_data.default)
def log_softmax_backward(grad_output: Array, output: Array, dim: int, input_dtype: torch.dtype) -> Array:
    """Compute the gradient of log_softmax's input from its output."""
    gradient = wide(grad_output)
    if not gradient.ndim:
        return jnp.zeros_like(gradient)
    return gradient - jnp.exp(wide(output)) * jnp.sum(gradient, axis=dim, keepdims=True)
