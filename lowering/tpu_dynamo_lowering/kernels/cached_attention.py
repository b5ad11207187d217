"""Attention of a few queries to a long cache as one kernel of JAX's, which reads the part that a mask shows."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array

from .fused_attention import refusal
from .seen_keys import Seen
from .unseen_rows import with_unseen

# Rows of queries of one head of keys: a register's of the narrower dtype, and the most that there may be.
_SUBLANES, _ROWS = 16, 128
# Columns of a vector register, of which blocks of keys are multiples, and the largest block: what a step fetches should
# take longer than beginning it.
_LANES, _BLOCK = 128, 1024
# A kernel has little to leave out of fewer keys.
_LONG = 4096


def is_cached(query: Array, key: Array, value: Array, mask: Array, seen: Seen) -> bool:
    """Tell whether an attention is one of few queries to keys of which a mask shows some.

    Operands as for `cached_attention`. The keys are whole registers, since padding would copy them.
    """
    if (
        refusal(query, key, value, None) is not None
        or seen._replace(cap=None, unseen="zero") != Seen()
        or query.ndim != 4
    ):
        return False
    if key.shape[1] != value.shape[1] or query.shape[1] % key.shape[1]:
        return False
    rows, keys = query.shape[1] // key.shape[1] * query.shape[2], key.shape[2]
    return rows <= _ROWS and keys % _LANES == 0 and mask.shape[-1] == keys


def is_long(key: Array) -> bool:
    """Tell whether there are so many keys that leaving some out is worth a kernel."""
    return key.shape[-2] >= _LONG


def cached_attention(
    query: Array, key: Array, value: Array, mask: Array, seen: Seen, scale: float, precision: str, interpret: bool
) -> tuple[Array, Array]:
    """Compute attention, and the log of each softmax denominator; both as `seen` says in a row that sees nothing.

    query: [batch, heads, queries, features]; key, value: [batch, key heads, keys, features]. mask: bool[batch or 1,
    1, 1, keys], or the last of these dimensions. Blocks of keys before the first that any batch sees, and behind the
    last, are not read. Queries of heads that share keys are rows of one block, for which keys are read once.
    precision, interpret: as for `fused_attention`.
    """
    from .. import pallas_compat  # Pallas takes a while to import, which programs without it do not spend

    batch, key_heads, keys, _ = key.shape
    rows = query.shape[1] // key_heads * query.shape[2]
    shown = jnp.broadcast_to(mask.reshape(-1, keys), (batch, keys))
    block = max(size for size in range(_LANES, _BLOCK + 1, _LANES) if keys % size == 0)
    schedule = pallas_compat.Schedule(*_steps(jnp.any(shown.reshape(batch, -1, block), axis=(0, 2))))
    padding = -rows % _SUBLANES
    kernel = pallas_compat.Kernel(
        rows + padding, block, schedule, None, seen.cap, _estimate(query, key, value, seen), interpret
    )
    scaled = (query * jnp.asarray(scale, query.dtype)).reshape(batch, key_heads, rows, -1)
    padded = jnp.pad(scaled, [(0, 0), (0, 0), (0, padding), (0, 0)])
    with jax.default_matmul_precision(precision):
        out, normaliser = pallas_compat.read_cache(kernel, padded, key, value, shown.astype(jnp.int32))
    out = out[:, :, :rows].reshape(*query.shape[:-1], value.shape[-1])
    normaliser = normaliser[:, :, :rows].reshape(query.shape[:-1])
    return with_unseen(out, normaliser, value, seen)


def _steps(seen: Array) -> tuple[Array, Array]:
    """Return the block of each step, and whether it computes anything, as `Schedule` has them.

    seen: bool[blocks]. Steps before the first and behind the last that is seen stay there, so that they fetch nothing.
    """
    numbers = jnp.arange(len(seen), dtype=jnp.int32)
    first = jnp.min(jnp.where(seen, numbers, len(seen) - 1))
    last = jnp.max(jnp.where(seen, numbers, 0))
    runs = (numbers >= first) & (numbers <= last)
    return jnp.minimum(jnp.maximum(numbers, first), jnp.maximum(first, last))[None], runs[None]


def _estimate(query: Array, key: Array, value: Array, seen: Seen) -> tuple[int, int, int]:
    """Return flops, transcendentals and bytes as if all keys were seen: how many are, only the program knows."""
    pairs = math.prod(query.shape[:-1]) * key.shape[-2]
    features = query.shape[-1] + value.shape[-1]
    read = (math.prod(key.shape) + math.prod(value.shape)) * key.dtype.itemsize
    own = math.prod(query.shape[:-1]) * features * query.dtype.itemsize
    return 2 * pairs * features, pairs * (1 if seen.cap is None else 2), read + own
