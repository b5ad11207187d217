"""Softmax and its logarithm, forward and backward; half precision is computed in float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import torch
from jax import Array

from ..table import kernel
from .reductions import wide

aten = torch.ops.aten


@kernel(aten._softmax.default)
def softmax(self: Array, dim: int, half_to_float: bool) -> Array:
    """Return the softmax along one dimension."""
    return jax.nn.softmax(wide(self), axis=dim) if self.ndim else jnp.ones_like(self)


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
