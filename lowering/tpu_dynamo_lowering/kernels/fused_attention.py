"""Attention as one kernel, from JAX's library for TPUs: no scores in memory, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .dtypes import wide
from .seen_keys import Seen
from .unseen_rows import gradients_of_means, is_unseen, with_unseen

# Columns of a vector register, of which blocks are multiples, and the largest block.
_LANES, _BLOCK = 128, 512
# Numbers of steps that fit a TPU's scalar memory, of a byte to four each and twice.
_STEPS = 2**17


def refusal(query: Array, key: Array, value: Array, mask: Array | None) -> str | None:
    """Say why no kernel can compute an attention; None if one can. Operands as for `fused_attention`."""
    if query.dtype not in (jnp.bfloat16, jnp.float32):
        return f"the fused kernel takes bfloat16 and float32, not {query.dtype}"
    if query.ndim < 3 or not all((*query.shape, *key.shape, *value.shape)):
        return "the fused kernel takes operands of three dimensions and more that are not empty"
    if mask is not None:
        return "the fused kernel takes masks that are causal, windows, segments or of keys, not others"
    steps = -(-query.shape[-2] // _BLOCK) * -(-key.shape[-2] // _BLOCK)
    return f"the fused kernel takes at most {_STEPS} blocks, not {steps}" if steps > _STEPS else None


def fused_attention(
    query: Array, key: Array, value: Array, seen: Seen, scale: float, precision: str, interpret: bool
) -> tuple[Array, Array]:
    """Compute attention, and the log of each softmax denominator; both as `seen` says in a row that sees nothing.

    query: [..., heads, queries, features]; key, value: [..., key heads, keys, features]. precision: of products of
    float32, as JAX names it. interpret: without a TPU, operation by operation.
    """
    from .. import pallas_compat  # Pallas takes a while to import, which programs without it do not spend

    call = _Call(query, key, value, seen, interpret)
    forward = call.kernel(pallas_compat.forward, products=1, by_keys=False)
    with jax.default_matmul_precision(precision):
        out, normaliser = call.run(forward, *call.operands(query * jnp.asarray(scale, query.dtype), key, value))
    out, normaliser = call.of_queries(out), call.of_queries(normaliser[..., None])[..., 0]
    if seen.hides_none(query.shape[-2], key.shape[-2]):
        return out, normaliser
    return with_unseen(out, normaliser, value, seen)


def fused_gradients(
    grad_out: Array,
    query: Array,
    key: Array,
    value: Array,
    out: Array,
    normaliser: Array,
    seen: Seen,
    scale: float,
    precision: str,
    interpret: bool,
    grad_normaliser: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Compute the gradients of query, key and value. Operands as for `fused_attention`, whose results are given.

    grad_normaliser: that of the log of each denominator, where it has one.
    """
    from .. import pallas_compat

    call = _Call(query, key, value, seen, interpret)
    by_query = call.kernel(pallas_compat.query_gradient, products=2, by_keys=False)
    by_key = call.kernel(pallas_compat.key_gradients, products=3, by_keys=True)
    factor, unseen = jnp.asarray(scale, query.dtype), None
    if seen.unseen == "mean":
        unseen = is_unseen(normaliser)
        normaliser = jnp.where(unseen, 0, normaliser)  # by which the kernels' probabilities are zero
    correction = jnp.sum(wide(grad_out) * wide(out), axis=-1)
    correction = correction if grad_normaliser is None else correction - grad_normaliser
    # Rows that are added have no probabilities.
    normalisers = call.queries(normaliser.astype(jnp.float32)[..., None], constant_values=-pallas_compat.HIDDEN)[..., 0]
    correction = call.queries(correction[..., None])[..., 0]
    operands = (*call.operands(query * factor, key, value), normalisers, call.queries(grad_out), correction)
    with jax.default_matmul_precision(precision):
        grad_query = call.of_queries(call.run(by_query, *operands)) * factor
        grad_key, grad_value = (call.of_keys(each) for each in call.run(by_key, *operands))
    grads = (grad_query, grad_key.reshape(key.shape), grad_value.reshape(value.shape))
    if unseen is None:
        return grads
    means = gradients_of_means(grad_out, query, key, value, out, unseen, seen, scale)
    return tuple(a + b.astype(a.dtype) for a, b in zip(grads, means, strict=True))  # pyright: ignore[reportReturnType]


class _Call:
    """The shapes of one attention: batches are heads, unless segments tell them apart; lengths are whole blocks."""

    def __init__(self, query: Array, key: Array, value: Array, seen: Seen, interpret: bool):
        self._query, self._key, self._value = query, key, value
        self._seen, self._interpret = seen, interpret
        self._block_q, self._block_kv = _block(query.shape[-2]), _block(key.shape[-2])
        batch = int(np.prod(query.shape[:-3]))
        self._lead = (batch,) if seen.query_segments is not None else ()

    def operands(self, query: Array, key: Array, value: Array) -> tuple[Any, ...]:
        """Return query, key, value and segments as kernels take them."""
        segments = None
        if self._seen.query_segments is not None and self._seen.key_segments is not None:
            given = (self._seen.query_segments, self._seen.key_segments)
            padded = (
                jnp.pad(each.astype(jnp.int32), ((0, 0), (0, -each.shape[-1] % block)))
                for each, block in zip(given, (self._block_q, self._block_kv), strict=True)
            )
            segments = tuple(jnp.broadcast_to(each, (*self._lead, each.shape[-1])) for each in padded)
        # Within a cap infinity is a score like others, and zero times infinity, in what is added, would be none.
        repeats = {} if self._seen.cap is None else {"mode": "edge"}
        query, key = self.queries(query, **repeats), self._heads(key, self._block_kv, **repeats)
        return query, key, self._heads(value, self._block_kv), segments

    def queries(self, x: Array, **padding: Any) -> Array:
        """Return what is [..., heads, queries, features] as [heads, blocks of queries, features]."""
        return self._heads(x, self._block_q, **padding)

    def _heads(self, x: Array, block: int, **padding: Any) -> Array:
        x = x.reshape(*self._lead, -1, *x.shape[-2:])
        return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, -x.shape[-2] % block), (0, 0)], **padding)

    def of_queries(self, x: Array) -> Array:
        """Return a result for whole blocks of queries with the shape of `query`, but its own features."""
        queries = self._query.shape[-2]
        return x[..., :queries, :].reshape(*self._query.shape[:-1], x.shape[-1])

    def of_keys(self, x: Array) -> Array:
        """Return a result for whole blocks of keys without padding."""
        return x[..., : self._key.shape[-2], :]

    def run(self, function: Callable[..., Any], *operands: Any) -> Any:
        """Call a kernel, of each batch where segments tell them apart."""
        return jax.vmap(function)(*operands) if self._lead else function(*operands)

    def kernel(self, function: Callable[..., Any], products: int, by_keys: bool) -> Callable[..., Any]:
        """Return a function of `pallas_compat` for these shapes.

        products: how many have the queries' features; as many have the values' features, or one fewer in a gradient.
        by_keys: whether the results are of keys, which then visit queries.
        """
        from .. import pallas_compat

        seen, keys, block_q, block_kv = self._seen, self._key.shape[-2], self._block_q, self._block_kv
        visible = _visible(self._query.shape[-2], keys, block_q, block_kv, seen)
        if by_keys:
            blocks, runs = _steps(visible.T)
            schedule = pallas_compat.Schedule(blocks.T, runs.T)
        else:
            schedule = pallas_compat.Schedule(*_steps(visible))

        def sees(query_numbers: Array, key_numbers: Array) -> Array:
            band = seen.band(query_numbers, key_numbers)
            real = key_numbers < keys
            return real if band is None else band & real

        masked = seen.left is not None or seen.right is not None or keys % block_kv
        kernel = pallas_compat.Kernel(
            block_q, block_kv, schedule, sees if masked else None, seen.cap,
            self._estimate(int(visible.sum()), products), self._interpret,
        )  # fmt: skip
        return lambda *operands: function(kernel, *operands)

    def _estimate(self, blocks: int, products: int) -> tuple[int, int, int]:
        """Return the flops, transcendentals and bytes of all heads that `run` gives a kernel at once."""
        query, key, value = self._query, self._key, self._value
        heads = int(np.prod(query.shape[:-2])) // (self._lead[0] if self._lead else 1)
        pairs = heads * blocks * self._block_q * self._block_kv
        features = products * query.shape[-1] + max(products - 1, 1) * value.shape[-1]
        visits = heads * blocks * self._block_kv * (key.shape[-1] + value.shape[-1]) * key.dtype.itemsize
        own = heads * query.shape[-2] * (query.shape[-1] + value.shape[-1]) * query.dtype.itemsize
        return 2 * pairs * features, pairs * (1 if self._seen.cap is None else 2), visits + own


def _block(length: int) -> int:
    """Return the size of blocks of a dimension, which is padded to a multiple of it."""
    return min(_BLOCK, -(-length // _LANES) * _LANES)


def _visible(queries: int, keys: int, block_q: int, block_kv: int, seen: Seen) -> np.ndarray:
    """Tell of each block of queries and each of keys whether any query sees any key: bool[rows, columns]."""
    first = np.arange(0, queries, block_q)[:, None]
    last = np.minimum(first + block_q, queries) - 1
    start = np.arange(0, keys, block_kv)[None]
    end = np.minimum(start + block_kv, keys) - 1
    found = np.ones((len(first), start.shape[1]), np.bool_)
    if seen.left is not None:
        found &= end >= first - seen.left
    if seen.right is not None:
        found &= start <= last + seen.right
    return found


def _steps(visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns that each row visits one after the other, and at which steps it does: as `Schedule` has them.

    Rows with fewer end with steps that fetch what the next row begins with.
    """
    width = max(int(visible.sum(axis=1).max()), 1)
    blocks = np.zeros((len(visible), width), np.int32)
    runs = np.zeros((len(visible), width), np.int8)
    following = 0
    for row in reversed(range(len(visible))):
        (columns,) = np.nonzero(visible[row])
        blocks[row] = following
        blocks[row, : len(columns)] = columns
        runs[row, : len(columns)] = 1
        following = blocks[row, 0]
    smallest = next(each for each in (np.int8, np.int16, np.int32) if blocks.max() <= np.iinfo(each).max)
    return blocks.astype(smallest), runs
