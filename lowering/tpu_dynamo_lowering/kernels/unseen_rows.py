"""Rows of attention that see no key, after a kernel that left them out: zero, nan, or the mean of all values."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from .dtypes import wide
from .scaled_dot_products import Attention, attention_of
from .seen_keys import Seen

# Rows whose scores are there at a time where rows that see nothing have gradients.
_ROWS = 128


def is_unseen(normaliser: Array) -> Array:
    """Tell of each row whether it sees nothing, by the log of its denominator; a row of nan sees something."""
    from .. import pallas_compat

    return normaliser < pallas_compat.HIDDEN / 2


def with_unseen(out: Array, normaliser: Array, value: Array, seen: Seen) -> tuple[Array, Array]:
    """Return what a kernel gives, with what `seen` says in rows that see nothing.

    out: [..., heads, queries, features]; normaliser: [..., heads, queries]; value: [..., key heads, keys, features].
    """
    from .. import pallas_compat

    unseen = is_unseen(normaliser)
    if seen.unseen != "mean":
        return jnp.where(unseen[..., None], seen.nothing, out), jnp.where(unseen, seen.nothing, normaliser)
    means = jnp.mean(wide(value), axis=-2, keepdims=True)
    means = jnp.repeat(means, out.shape[-3] // value.shape[-3], axis=-3).astype(out.dtype)
    return jnp.where(unseen[..., None], means, out), jnp.where(unseen, pallas_compat.HIDDEN, normaliser)


def gradients_of_means(
    grad_out: Array, query: Array, key: Array, value: Array, out: Array, unseen: Array, seen: Seen, scale: float
) -> tuple[Array, Array, Array]:
    """Compute the parts of the gradients of query, key and value that rows have which are means of all values.

    Eager's softmax of equal scores has gradients of them. Those of query and key are all products again, computed
    where such a row has a gradient, which what is padding has not. unseen: bool[..., heads, queries]. Other operands
    as for `fused_gradients`.
    """
    keys = key.shape[-2]
    grad_out = jnp.where(unseen[..., None], grad_out, 0)
    whole = attention_of(query, key, value, None, False, scale, Seen(cap=seen.cap))
    lead = whole.query.shape[:-1]
    sums = jnp.sum(wide(grad_out).reshape(*lead, -1), axis=-2, keepdims=True) / keys
    of_value = jnp.broadcast_to(jnp.sum(sums, axis=-3) if whole.group else sums, value.shape)
    rows = [each.reshape(*lead, -1) for each in (grad_out, out, unseen)]

    def computed() -> tuple[Array, Array]:
        return _of_products(whole, *rows)

    def nothing() -> tuple[Array, Array]:
        return jnp.zeros_like(whole.query), jnp.zeros(key.shape, wide(key).dtype)

    of_query, of_key = lax.cond(jnp.any(grad_out != 0), computed, nothing)
    return of_query.reshape(query.shape), of_key, of_value


def _of_products(whole: Attention, grad_out: Array, out: Array, unseen: Array) -> tuple[Array, Array]:
    """Compute the gradients of query and key of rows that are means, some rows at a time."""
    queries, keys = whole.query.shape[-2], whole.key.shape[-2]
    padding = [(0, 0)] * (whole.query.ndim - 2) + [(0, -queries % _ROWS), (0, 0)]
    rows = [jnp.pad(each, padding) for each in (whole.query, grad_out, out, unseen)]

    def block(of_key: Array, i: Array) -> tuple[Array, Array]:
        query, gradient, result, weights = (lax.dynamic_slice_in_dim(x, i * _ROWS, _ROWS, -2) for x in rows)
        given = whole._replace(query=query)
        of_probabilities = given.product("Gqd,kd->Gqk", gradient, given.value)
        correction = jnp.sum(wide(gradient) * wide(result), axis=-1, keepdims=True)
        of_scores = jnp.where(weights, (of_probabilities - correction) * (given.scale / keys), 0)
        if given.seen.cap is not None:
            of_scores = of_scores * (1 - jnp.square(jnp.tanh(given.products() / given.seen.cap)))
        of_scores = of_scores.astype(query.dtype)
        of_query = given.product("Gqk,kd->Gqd", of_scores, given.key).astype(query.dtype)
        return of_key + given.product("Gqk,Gqd->kd", of_scores, query), of_query

    start = jnp.zeros(whole.key.shape, wide(whole.key).dtype)
    of_key, blocks = lax.scan(block, start, jnp.arange(-(-queries // _ROWS)))
    of_query = jnp.moveaxis(blocks, 0, -3).reshape(*whole.query.shape[:-2], -1, whole.query.shape[-1])
    return of_query[..., :queries, :], of_key
