"""Scaled dot-product attention and its gradients on arrays: heads that share keys together, queries in blocks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from .dtypes import wide
from .seen_keys import ALL, Seen
from .softmax import exponentials_of

# Scores of all queries stay in fast memory beside what else XLA keeps there if they take no more than so much of it;
# blocks, of which several are there at a time, may take a quarter. Fewer rows fill the matrix unit badly, and more
# blocks make long programs: such a block may take more.
_WHOLE, _BLOCK, _LARGEST = 0.45, 0.25, 0.8
_ROWS, _BLOCKS = 128, 16


class Attention(NamedTuple):
    """The operands of one attention, as `attention_of` arranges them.

    query: [..., key heads, groups, queries, features]; key, value: [..., key heads, keys, features]; mask: None, or
    broadcastable with [..., key heads, groups, queries, keys]. Without groups that dimension is missing in all. group:
    its letter in the patterns of products, `g` or none. seen: besides what the mask says. first: the number of the
    first query.
    """

    query: Array
    key: Array
    value: Array
    mask: Array | None
    seen: Seen
    scale: float
    group: str
    first: int = 0

    def products(self) -> Array:
        """Compute the scaled products of queries and keys, [..., queries, keys], in float32 for half precision."""
        # Scaling the query costs a pass over [queries, head]; scaling the scores one over [queries, keys].
        scaled = self.query * jnp.asarray(self.scale, self.query.dtype)
        return self.product("Gqd,kd->Gqk", scaled, self.key)

    def scores(self, products: Array | None = None) -> Array:
        """Compute the capped and masked scores, [..., queries, keys]. products: as `products` gives them."""
        scores = self.seen.capped(self.products() if products is None else products)
        hidden = self.seen.hidden(scores.dtype)
        for visible in (self._band(*scores.shape[-2:]), self._same_segment()):
            if visible is not None:
                scores = jnp.where(visible, scores, hidden)
        if self.mask is None:
            return scores
        if self.mask.dtype == jnp.bool_:
            return jnp.where(self.mask, scores, hidden)
        return scores + self.mask.astype(scores.dtype)

    def _band(self, queries: int, keys: int) -> Array | None:
        return self.seen.band(jnp.arange(self.first, self.first + queries)[:, None], jnp.arange(keys)[None, :])

    def _same_segment(self) -> Array | None:
        queries, keys = self.seen.query_segments, self.seen.key_segments
        if queries is None or keys is None:
            return None
        heads = (1,) * (2 if self.group else 1)
        return queries.reshape(len(queries), *heads, -1, 1) == keys.reshape(len(keys), *heads, 1, -1)

    def edges(self, fast_memory: int | None, arrays: int = 1) -> list[int]:
        """Return where blocks of queries begin, and the number of queries; one block where all scores may stay.

        fast_memory: the bytes that the target has next to its matrix unit; None where blocks gain nothing. arrays: of
        the scores' size that are needed at a time.
        """
        queries, keys = self.query.shape[-2], self.key.shape[-2]
        row = math.prod(self.query.shape[:-2]) * keys * jnp.promote_types(self.query.dtype, jnp.float32).itemsize
        if fast_memory is None or arrays * row * queries <= fast_memory * _WHOLE:
            return [0, queries]
        rows = max(int(fast_memory * _BLOCK) // row // _ROWS, -(-queries // _BLOCKS // _ROWS), 1) * _ROWS
        return [*range(0, queries, rows), queries]

    def fits(self, fast_memory: int | None, in_blocks: bool, arrays: int = 1) -> bool:
        """Tell whether the scores stay in fast memory, of all queries or of the largest block of `edges`."""
        if fast_memory is None:
            return True
        queries, keys = self.query.shape[-2], self.key.shape[-2]
        rows = self.edges(fast_memory, arrays)[1] if in_blocks else queries
        row = math.prod(self.query.shape[:-2]) * keys * jnp.promote_types(self.query.dtype, jnp.float32).itemsize
        return arrays * row * rows <= fast_memory * _LARGEST

    def block(self, start: int, stop: int) -> Attention:
        """Return the attention of the queries from `start` to `stop`, to no more keys than the last one may see.

        To all where a row that sees nothing is the mean of their values.
        """
        keys, right = self.key.shape[-2], self.seen.right if self.seen.unseen != "mean" else None
        last = keys if right is None else max(min(stop + right, keys), 0)
        mask = self.mask
        if mask is not None and mask.ndim >= 2 and mask.shape[-2] != 1:
            mask = mask[..., start:stop, :]
        if mask is not None and mask.ndim >= 1 and mask.shape[-1] != 1:
            mask = mask[..., :last]
        query, key, value = self.query[..., start:stop, :], self.key[..., :last, :], self.value[..., :last, :]
        seen = self.seen.part(slice(start, stop), slice(last))
        return self._replace(query=query, key=key, value=value, mask=mask, seen=seen, first=start)

    def product(self, pattern: str, left: Array, right: Array) -> Array:
        """Multiply arrays by a pattern whose `G` is the dimension of groups, accumulated in float32 or wider."""
        operands, result = pattern.replace("G", self.group).split("->")
        first, second = operands.split(",")
        accumulated = jnp.promote_types(left.dtype, jnp.float32)
        return jnp.einsum(f"...{first},...{second}->...{result}", left, right, preferred_element_type=accumulated)


def attention_of(
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None,
    is_causal: bool,
    scale: float | None,
    seen: Seen = ALL,
) -> Attention:
    """Make an Attention in which queries that share a head of keys and values are grouped: none is repeated.

    query: [..., heads, queries, features]; key, value: [..., key heads, keys, features], whose heads divide those.
    """
    factor = factor_of(query, scale)
    seen = seen.causal() if is_causal else seen
    heads = query.shape[-3] if query.ndim >= 3 else 1
    if query.ndim < 3 or key.shape[-3] == value.shape[-3] == heads:
        return Attention(query, key, value, mask, seen, factor, "")
    if key.shape[-3] != value.shape[-3]:
        key, value = repeated_heads(key, heads), repeated_heads(value, heads)
        return Attention(query, key, value, mask, seen, factor, "")
    groups = (key.shape[-3], heads // key.shape[-3])
    query = query.reshape(*query.shape[:-3], *groups, *query.shape[-2:])
    if mask is not None and mask.ndim >= 3:
        shared = (1, 1) if mask.shape[-3] == 1 else groups
        mask = mask.reshape(*mask.shape[:-3], *shared, *mask.shape[-2:])
    return Attention(query, key, value, mask, seen, factor, "g")


def factor_of(query: Array, scale: float | None) -> float:
    """Return the factor of the scores: PyTorch's default where none is given."""
    return 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale


def repeated_heads(value: Array, heads: int) -> Array:
    """Repeat the heads of keys or values, dimension -3, to `heads`: grouped queries share them."""
    return value if value.shape[-3] == heads else jnp.repeat(value, heads // value.shape[-3], axis=-3)


def attend(
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None,
    is_causal: bool,
    scale: float | None,
    fast_memory: int | None = None,
    seen: Seen = ALL,
) -> tuple[Array, Array]:
    """Compute attention, and the log of each softmax denominator; both as `seen` says in a row that sees nothing.

    Operands as for `attention_of`; fast_memory as for `Attention.edges`. Results: [..., heads, queries, features] and
    [..., heads, queries].
    """
    whole = attention_of(query, key, value, mask, is_causal, scale, seen)
    outputs, normalisers = zip(*(_attend(block) for block in _blocks(whole, fast_memory)), strict=True)
    rows = query.shape[:-1]
    return _joined(outputs, -2).reshape(*rows, value.shape[-1]), _joined(normalisers, -1).reshape(rows)


def _attend(given: Attention) -> tuple[Array, Array]:
    exponentials, total, normaliser = exponentials_of(given.scores())
    normaliser = jnp.where(normaliser == -jnp.inf, given.seen.nothing, normaliser)
    if given.seen.unseen == "nan":
        exponentials, total = jax.nn.softmax(given.scores(), axis=-1), jnp.ones_like(total)

    # The second product takes the values' own dtype: bfloat16 keeps the matrix unit at full speed.
    def of_quotients(exponentials: Array, total: Array) -> Array:
        return given.product("Gqk,kd->Gqd", (exponentials / total).astype(given.value.dtype), given.value)

    def of_numerators(exponentials: Array, total: Array) -> Array:
        return given.product("Gqk,kd->Gqd", exponentials.astype(given.value.dtype), given.value) / total

    # In half precision numerators lose less than quotients, since the largest is one; libtpu takes a sixth longer.
    on_a_cpu = of_quotients if given.value.dtype == exponentials.dtype else of_numerators
    output = lax.platform_dependent(exponentials, total, cpu=on_a_cpu, default=of_quotients)
    return output.astype(given.query.dtype), normaliser


def _blocks(whole: Attention, fast_memory: int | None, arrays: int = 1) -> list[Attention]:
    edges = whole.edges(fast_memory, arrays)
    if len(edges) == 2:
        return [whole]
    return [whole.block(start, stop) for start, stop in itertools.pairwise(edges)]


def _joined(parts: Sequence[Array], axis: int) -> Array:
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis)


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
    fast_memory: int | None = None,
    seen: Seen = ALL,
) -> tuple[Array, Array, Array]:
    """Compute the gradients of query, key and value; the scores are computed again from `normaliser`, not saved.

    Operands as for `attend`; `normaliser` as `attend` gives it.
    """
    whole = attention_of(query, key, value, mask, is_causal, scale, seen)
    lead = whole.query.shape[:-1]
    # Each with its own number of columns: of no elements, none could be inferred.
    grad_out, out = (x.reshape(*lead, x.shape[-1]) for x in (grad_out, out))
    normaliser = normaliser.reshape(*lead, 1)
    queries, keys, values = [], [], []
    # Of all queries each block has gradients of all keys: adding them up takes longer than the blocks save.
    for block in _blocks(whole, fast_memory if whole.seen.right is not None else None, arrays=2):
        rows = slice(block.first, block.first + block.query.shape[-2])
        grads = _gradients(block, grad_out[..., rows, :], out[..., rows, :], normaliser[..., rows, :])
        for found, grad in zip((queries, keys, values), grads, strict=True):
            found.append(grad)
    grad_query = _joined(queries, -2).reshape(query.shape)
    grads = (grad_query, _shared(_summed(keys, key), key), _shared(_summed(values, value), value))
    return tuple(grad.astype(query.dtype) for grad in grads)  # pyright: ignore[reportReturnType]


def _gradients(given: Attention, grad_out: Array, out: Array, normaliser: Array) -> tuple[Array, Array, Array]:
    dtype, products = given.query.dtype, given.products()
    scores = given.scores(products)
    if given.seen.unseen != "zero":
        # Of a row of the least number no digit of the denominator is left in its logarithm.
        probabilities = jax.nn.softmax(scores, axis=-1)
    else:
        probabilities = jnp.exp(scores - normaliser.astype(scores.dtype))
    grad_value = given.product("Gqk,Gqd->kd", probabilities.astype(dtype), grad_out)
    grad_probabilities = given.product("Gqd,kd->Gqk", grad_out, given.value)
    correction = jnp.sum(wide(grad_out) * wide(out), axis=-1, keepdims=True)
    grad_scores = probabilities * (grad_probabilities - correction) * given.scale
    if given.seen.cap is not None:
        grad_scores = grad_scores * (1 - jnp.square(jnp.tanh(products / given.seen.cap)))
    grad_scores = grad_scores.astype(dtype)
    grad_query = given.product("Gqk,kd->Gqd", grad_scores, given.key)
    return grad_query.astype(dtype), given.product("Gqk,Gqd->kd", grad_scores, given.query), grad_value


def _summed(parts: Sequence[Array], like: Array) -> Array:
    """Add up gradients of the first keys, [..., keys, features], of which a later part has at least as many.

    Those of keys that no query sees are zero. like: the keys or values.
    """
    total = parts[0]
    for part in parts[1:]:
        fewer = total.shape[-2]
        sums = total + part[..., :fewer, :]
        total = sums if part.shape[-2] == fewer else jnp.concatenate([sums, part[..., fewer:, :]], -2)
    unseen = like.shape[-2] - total.shape[-2]
    return jnp.pad(total, [(0, 0)] * (total.ndim - 2) + [(0, unseen), (0, 0)]) if unseen else total


def _shared(gradient: Array, like: Array) -> Array:
    """Add up the gradients of heads that were repeated."""
    if gradient.shape == like.shape:
        return gradient
    shape = (*like.shape[:-2], gradient.shape[-3] // like.shape[-3], *like.shape[-2:])
    return jnp.sum(gradient.reshape(shape), axis=-3)
