"""Scaled dot-product attention and its gradients on arrays, heads that share keys together."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from .dtypes import wide
from .softmax import softmax_with_normaliser


class Attention(NamedTuple):
    """The operands of one attention, as `attention_of` arranges them.

    query: [..., key heads, groups, queries, features]; key, value: [..., key heads, keys, features]; mask: None, or
    broadcastable with [..., key heads, groups, queries, keys]. Without groups that dimension is missing in all. group:
    its letter in the patterns of products, `g` or none.
    """

    query: Array
    key: Array
    value: Array
    mask: Array | None
    is_causal: bool
    scale: float
    group: str

    def scores(self) -> Array:
        """Compute the scaled and masked scores, [..., queries, keys], in float32 for half precision."""
        # Scaling the query costs a pass over [queries, head]; scaling the scores one over [queries, keys].
        scaled = self.query * jnp.asarray(self.scale, self.query.dtype)
        scores = self.product("Gqd,kd->Gqk", scaled, self.key)
        if self.is_causal:
            queries, keys = scores.shape[-2:]
            # Aligned at the top left, as PyTorch defines it.
            seen = jnp.arange(queries)[:, None] >= jnp.arange(keys)[None, :]
            scores = jnp.where(seen, scores, -jnp.inf)
        if self.mask is None:
            return scores
        if self.mask.dtype == jnp.bool_:
            return jnp.where(self.mask, scores, -jnp.inf)
        return scores + self.mask.astype(scores.dtype)

    def product(self, pattern: str, left: Array, right: Array) -> Array:
        """Multiply arrays by a pattern whose `G` is the dimension of groups, accumulated in float32 or wider."""
        operands, result = pattern.replace("G", self.group).split("->")
        first, second = operands.split(",")
        accumulated = jnp.promote_types(left.dtype, jnp.float32)
        return jnp.einsum(f"...{first},...{second}->...{result}", left, right, preferred_element_type=accumulated)


def attention_of(
    query: Array, key: Array, value: Array, mask: Array | None, is_causal: bool, scale: float | None
) -> Attention:
    """Make an Attention in which queries that share a head of keys and values are grouped: none is repeated.

    query: [..., heads, queries, features]; key, value: [..., key heads, keys, features], whose heads divide those.
    """
    factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    heads = query.shape[-3] if query.ndim >= 3 else 1
    if query.ndim < 3 or key.shape[-3] == value.shape[-3] == heads:
        return Attention(query, key, value, mask, is_causal, factor, "")
    if key.shape[-3] != value.shape[-3]:
        key, value = repeated_heads(key, heads), repeated_heads(value, heads)
        return Attention(query, key, value, mask, is_causal, factor, "")
    groups = (key.shape[-3], heads // key.shape[-3])
    query = query.reshape(*query.shape[:-3], *groups, *query.shape[-2:])
    if mask is not None and mask.ndim >= 3:
        shared = (1, 1) if mask.shape[-3] == 1 else groups
        mask = mask.reshape(*mask.shape[:-3], *shared, *mask.shape[-2:])
    return Attention(query, key, value, mask, is_causal, factor, "g")


def repeated_heads(value: Array, heads: int) -> Array:
    """Repeat the heads of keys or values, dimension -3, to `heads`: grouped queries share them."""
    return value if value.shape[-3] == heads else jnp.repeat(value, heads // value.shape[-3], axis=-3)


def attend(
    query: Array, key: Array, value: Array, mask: Array | None, is_causal: bool, scale: float | None
) -> tuple[Array, Array]:
    """Compute attention, and the log of each softmax denominator; both zero in a row that sees nothing.

    Operands as for `attention_of`. Results: [..., heads, queries, features] and [..., heads, queries].
    """
    given = attention_of(query, key, value, mask, is_causal, scale)
    probabilities, normaliser = softmax_with_normaliser(given.scores())
    # The second product takes the values' own dtype: bfloat16 keeps the matrix unit at full speed.
    output = given.product("Gqk,kd->Gqd", probabilities.astype(value.dtype), given.value)
    normaliser = jnp.where(normaliser == -jnp.inf, 0, normaliser)
    rows = query.shape[:-1]
    return output.astype(query.dtype).reshape(*rows, value.shape[-1]), normaliser.reshape(rows)


def attention_gradients(
    grad_out: Array,
    query: Array,
    key: Array,
    value: Array,
    out: Array,
    normaliser: Array,
    mask: Array | None,
    is_causal: bool,
    scale: float | None,
) -> tuple[Array, Array, Array]:
    """Compute the gradients of query, key and value; the scores are computed again from `normaliser`, not saved.

    Operands as for `attention_of`; `normaliser` as `attend` gives it.
    """
    given = attention_of(query, key, value, mask, is_causal, scale)
    lead = given.query.shape[:-1]
    grad_out, out = (x.reshape(*lead, x.shape[-1]) for x in (grad_out, out))
    scores = given.scores()
    probabilities = jnp.exp(scores - normaliser.reshape(*lead, 1).astype(scores.dtype))
    grad_value = given.product("Gqk,Gqd->kd", probabilities.astype(query.dtype), grad_out)
    grad_probabilities = given.product("Gqd,kd->Gqk", grad_out, given.value)
    correction = jnp.sum(wide(grad_out) * wide(out), axis=-1, keepdims=True)
    grad_scores = (probabilities * (grad_probabilities - correction) * given.scale).astype(query.dtype)
    grad_query = given.product("Gqk,kd->Gqd", grad_scores, given.key)
    grad_key = given.product("Gqk,Gqd->kd", grad_scores, given.query)
    grads = (grad_query.reshape(query.shape), _shared(grad_key, key), _shared(grad_value, value))
    return tuple(grad.astype(query.dtype) for grad in grads)  # pyright: ignore[reportReturnType]


def _shared(gradient: Array, like: Array) -> Array:
    """Add up the gradients of heads that were repeated."""
    if gradient.shape == like.shape:
        return gradient
    shape = (*like.shape[:-2], gradient.shape[-3] // like.shape[-3], *like.shape[-2:])
    return jnp.sum(gradient.reshape(shape), axis=-3)
