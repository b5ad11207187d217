"""Attention in the form that suits its shapes and the target: products and a softmax, or one kernel."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from ..target import Target
from .cached_attention import cached_attention, is_cached, is_long
from .fused_attention import fused_attention, fused_gradients, refusal
from .scaled_dot_products import attend, attention_gradients, attention_of, factor_of, repeated_heads
from .seen_keys import ALL, Seen, of_key_mask


def chosen_attention(
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None,
    is_causal: bool,
    scale: float | None,
    target: Target,
    seen: Seen = ALL,
) -> tuple[Array, Array]:
    """Compute attention, and the log of each softmax denominator; both as `seen` says in a row that sees nothing.

    query: [..., heads, queries, features]; key, value: [..., key heads, keys, features]; mask: as
    `scaled_dot_product_attention` takes it. Raises NotImplementedError where the target demands the fused kernel for
    what it cannot compute.
    """
    factor, precision = factor_of(query, scale), target.kernel_precision(query.dtype)
    interpret = target.platform != "tpu"
    if mask is not None and not is_causal and _reads_a_cache(query, key, value, mask, target, seen):
        return cached_attention(query, key, value, mask, seen, factor, precision, interpret)
    fused = fused_operands(query, key, value, mask, is_causal, target, seen, backward=False)
    if fused is None:
        return attend(query, key, value, mask, is_causal, scale, target.fast_memory, seen)
    return fused_attention(query, *fused, factor, precision, interpret)


def chosen_gradients(
    grad_out: Array,
    query: Array,
    key: Array,
    value: Array,
    out: Array,
    normaliser: Array,
    mask: Array | None,
    is_causal: bool,
    scale: float | None,
    target: Target,
    seen: Seen = ALL,
) -> tuple[Array, Array, Array]:
    """Compute the gradients of query, key and value. Operands as for `chosen_attention`, whose results are given."""
    fused = fused_operands(query, key, value, mask, is_causal, target, seen, backward=True)
    if fused is None:
        operands = (grad_out, query, key, value, out, normaliser, mask, is_causal, scale)
        grads = attention_gradients(*operands, target.fast_memory, seen)
    else:
        factor, precision = factor_of(query, scale), target.kernel_precision(query.dtype)
        interpret = target.platform != "tpu"
        keys, values, seen = fused
        grads = fused_gradients(grad_out, query, keys, values, out, normaliser, seen, factor, precision, interpret)
    of_key, of_value = _summed(grads[1], key), _summed(grads[2], value)
    if seen.cap is None:
        return grads[0], of_key, of_value
    return grads[0], _with_nan(of_key, normaliser), _with_nan(of_value, normaliser)


def _reads_a_cache(query: Array, key: Array, value: Array, mask: Array, target: Target, seen: Seen) -> bool:
    """Tell whether a kernel is to leave out the part of a cache that a mask hides."""
    wanted = target.attention == "fused" or (target.attention == "auto" and target.platform == "tpu" and is_long(key))
    return wanted and _is_of_keys(mask, query, seen) and is_cached(query, key, value, mask, seen)


def fused_operands(
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None,
    is_causal: bool,
    target: Target,
    seen: Seen,
    backward: bool,
) -> tuple[Array, Array, Seen] | None:
    """Return key, value and what is seen as the fused kernel takes them; None where attention is to be plain."""
    if target.attention == "plain":
        return None
    whole = attention_of(query, key, value, mask, is_causal, None, seen)
    # Gradients are taken in blocks only where that saves work.
    in_blocks = not backward or whole.seen.right is not None
    if target.attention == "auto" and (
        target.platform != "tpu" or whole.fits(target.fast_memory, in_blocks, arrays=2 if backward else 1)
    ):
        return None
    seen = whole.seen
    if mask is not None and _is_of_keys(mask, query, seen):
        mask, seen = None, of_key_mask(mask, query.shape[-2], seen)
    why = refusal(query, key, value, mask)
    if why is not None:
        if target.attention == "fused":
            raise NotImplementedError(f'{why}; options={{"attention": "auto"}} computes this call plainly')
        return None
    if query.shape[-3] % key.shape[-3] or key.shape[-3] != value.shape[-3]:
        key, value = repeated_heads(key, query.shape[-3]), repeated_heads(value, query.shape[-3])
    return key, value, seen


def _is_of_keys(mask: Array, query: Array, seen: Seen) -> bool:
    """Tell whether a mask is boolean and says for each batch which keys all its queries and heads see."""
    if mask.dtype != jnp.bool_ or mask.ndim < 2 or mask.shape[-2] != 1 or seen.query_segments is not None:
        return False
    return query.ndim == 4 and mask.shape[-1] > 1 and (mask.ndim < 3 or mask.shape[-3] == 1)


def _with_nan(gradient: Array, normaliser: Array) -> Array:
    """Return gradients of keys that are nan for a head of which a query's row is, also of keys that it does not see.

    So softmax's gradient has it. gradient: [..., key heads, keys, features]; normaliser: [..., heads, queries].
    """
    rows = jnp.any(jnp.isnan(normaliser), axis=-1)
    heads = jnp.any(rows.reshape(*gradient.shape[:-2], -1), axis=-1)
    return jnp.where(heads[..., None, None], jnp.nan, gradient)


def _summed(gradient: Array, like: Array) -> Array:
    """Add up the gradients of heads that were repeated."""
    if gradient.shape == like.shape:
        return gradient
    shape = (*like.shape[:-2], -1, *like.shape[-2:])
    return jnp.sum(gradient.reshape(shape), axis=-3).astype(gradient.dtype)
