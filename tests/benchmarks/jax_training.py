"""A training step of the example's GPT written by hand in JAX: what a rewrite would give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .jax_models import Weights, attention, linear, norm

# Weights, both moments and the count of steps; those after the step come behind the loss.
State = tuple[Weights, Weights, Weights, Array]


def gpt_loss(heads: int, layers: int) -> Callable[[Weights, Array, Array], Array]:
    """The mean cross entropy of what follows [batch, length] tokens."""

    def loss(w: Weights, tokens: Array, following: Array) -> Array:
        x = w["embed.weight"][tokens] + w["place.weight"][jnp.arange(tokens.shape[1])]
        for i in range(layers):
            at = f"blocks.{i}"
            q, k, v = jnp.split(linear(w, f"{at}.attend", norm(w, f"{at}.first", x, 1e-5)), 3, axis=-1)
            x = x + linear(w, f"{at}.project", attention(q, k, v, heads, True))
            y = jax.nn.gelu(linear(w, f"{at}.feed.0", norm(w, f"{at}.second", x, 1e-5)), approximate=False)
            x = x + linear(w, f"{at}.feed.2", y)
        logits = norm(w, "norm", x, 1e-5) @ w["embed.weight"].T
        shares = jax.nn.log_softmax(logits.reshape(-1, logits.shape[-1]))
        return -jnp.take_along_axis(shares, following.reshape(-1, 1), 1).mean()

    return loss


def adamw_step(
    loss: Callable[..., Array], rate: float = 1e-4, betas: tuple[float, float] = (0.9, 0.999), decay: float = 1e-2
) -> Callable[..., tuple[Array, Any]]:
    """The loss and the state after one step of AdamW, as torch.optim.AdamW computes it."""

    def step(state: State, *batch: Array) -> tuple[Array, State]:
        w, first, second, count = state
        found, gradients = jax.value_and_grad(loss)(w, *batch)
        count = count + 1
        first = {k: betas[0] * first[k] + (1 - betas[0]) * g for k, g in gradients.items()}
        second = {k: betas[1] * second[k] + (1 - betas[1]) * g**2 for k, g in gradients.items()}
        size, scale = rate / (1 - betas[0] ** count), jnp.sqrt(1 - betas[1] ** count)
        w = {
            k: (p * (1 - rate * decay) - size * first[k] / (jnp.sqrt(second[k]) / scale + 1e-8)).astype(p.dtype)
            for k, p in w.items()
        }
        return found, (w, first, second, count)

    return step


def start(weights: Weights) -> State:
    """The state before the first step."""
    zeros = {name: jnp.zeros_like(weight) for name, weight in weights.items()}
    return weights, zeros, {name: jnp.zeros_like(weight) for name, weight in weights.items()}, jnp.float32(0)
