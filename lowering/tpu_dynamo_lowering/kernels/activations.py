"""Activations and their gradients; half precision is computed in float32."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import torch
from jax import Array

from ..table import kernel
from .elementwise import promoted
from .reductions import wide

aten = torch.ops.aten


@kernel(aten.gelu.default)
def gelu(self: Array, *, approximate: str = "none") -> Array:
    """Return x * Phi(x), Phi being the normal distribution function: by erf, or approximately by tanh."""
    value = wide(self)
    if approximate == "tanh":
        return jax.nn.gelu(value, approximate=True)
    return 0.5 * value * (1 + jax.lax.erf(value * math.sqrt(0.5)))


@kernel(aten.gelu_backward.default)
def gelu_backward(grad_output: Array, self: Array, *, approximate: str = "none") -> Array:
    """Compute the gradient of gelu's input."""
    grad, x = map(wide, promoted(grad_output, self))
    if approximate == "tanh":
        factor = math.sqrt(2 / math.pi)
        inner = jnp.tanh(factor * (x + 0.044715 * x * x * x))
        slope = factor * (1 + 3 * 0.044715 * x * x)
        return grad * (0.5 * (1 + inner) + 0.5 * x * (1 - inner * inner) * slope)
    density = jnp.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return grad * (0.5 * (1 + jax.lax.erf(x * math.sqrt(0.5))) + x * density)


@kernel(aten.silu.default)
def silu(self: Array) -> Array:
    """Return x * sigmoid(x)."""
    return wide(self) * jax.nn.sigmoid(wide(self))


@kernel(aten.silu_backward.default)
def silu_backward(grad_output: Array, self: Array) -> Array:
    """Compute the gradient of silu's input."""
    grad, x = map(wide, promoted(grad_output, self))
    gate = jax.nn.sigmoid(x)
    return grad * gate * (1 + x * (1 - gate))


@kernel(aten.leaky_relu.default)
def leaky_relu(self: Array, negative_slope: float = 0.01) -> Array:
    """Return x where it is positive, else x * negative_slope."""
    x = wide(self)
    return jnp.where(x > 0, x, x * jnp.asarray(negative_slope, x.dtype))


@kernel(aten.leaky_relu_backward.default)
def leaky_relu_backward(grad_output: Array, self: Array, negative_slope: float, self_is_result: bool) -> Array:
    """Compute the gradient of leaky_relu's input from its input or its result, whose signs agree."""
    grad = wide(grad_output)
    return jnp.where(self > 0, grad, grad * jnp.asarray(negative_slope, grad.dtype))


@kernel(aten.hardshrink_backward.default)
def hardshrink_backward(grad_out: Array, self: Array, lambd: Any) -> Array:
    """Pass the gradient where |self| > lambd, else return zero; nan in `self` lets it pass."""
    grad, x = promoted(grad_out, self)
    return jnp.where((x >= -lambd) & (x <= lambd), jnp.zeros_like(grad), grad)


@kernel(aten.softshrink_backward.default)
def softshrink_backward(grad_output: Array, self: Array, lambd: Any) -> Array:
    """Pass the gradient where |self| > lambd, else return zero; nan in `self` lets it pass."""
    return hardshrink_backward(grad_output, self, lambd)


@kernel(aten.threshold_backward.default)
def threshold_backward(grad_output: Array, self: Array, threshold: float) -> Array:
    """Pass the gradient where self > threshold, else return zero; nan in `self` lets it pass, as in PyTorch."""
    return jnp.where(self <= threshold, jnp.zeros_like(grad_output), grad_output)


@kernel(aten.tanh_backward.default)
def tanh_backward(grad_output: Array, output: Array) -> Array:
    """Compute the gradient of tanh's input from tanh's output."""
    grad, y = map(wide, promoted(grad_output, output))
    return grad * jnp.conj(1 - y * y)


@kernel(aten.sigmoid_backward.default)
def sigmoid_backward(grad_output: Array, output: Array) -> Array:
    """Compute the gradient of sigmoid's input from sigmoid's output."""
    grad, y = map(wide, promoted(grad_output, output))
    return grad * jnp.conj(y * (1 - y))


@kernel(aten.softplus.default)
def softplus(self: Array, beta: float = 1, threshold: float = 20) -> Array:
    """Return log(1 + exp(beta * x)) / beta, or x itself where beta * x > threshold."""
    scaled = wide(self) * beta
    return jnp.where(scaled > threshold, wide(self), jax.nn.softplus(scaled) / beta)


@kernel(aten.softplus_backward.default)
def softplus_backward(grad_output: Array, self: Array, beta: float, threshold: float) -> Array:
    """Compute the gradient of softplus's input."""
    scaled = wide(self) * beta
    return wide(grad_output) * jnp.where(scaled > threshold, jnp.ones_like(scaled), jax.nn.sigmoid(scaled))
