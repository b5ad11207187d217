"""Attention: scaled dot products in every form that PyTorch's dispatcher gives them, forward and backward."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import torch
from jax import Array

from ..table import foreign_kernel, kernel

aten = torch.ops.aten


def _scale(query: Array, scale: float | None) -> float:
    return 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale


def _wide(value: Array) -> Array:
    return value.astype(jnp.float32) if value.dtype in (jnp.bfloat16, jnp.float16) else value


def _scores(query: Array, key: Array, mask: Array | None, is_causal: bool, scale: float | None) -> Array:
    """Compute the scaled and masked scores, [..., queries, keys], in float32 for half precision."""
    wide = jnp.promote_types(query.dtype, jnp.float32)
    # Scaling the query costs a pass over [queries, head]; scaling the scores one over [queries, keys].
    scaled = query * jnp.asarray(_scale(query, scale), query.dtype)
    scores = jnp.einsum("...qd,...kd->...qk", scaled, key, preferred_element_type=wide)
    if is_causal:
        queries, keys = scores.shape[-2:]
        # Aligned at the top left, as PyTorch defines it.
        seen = jnp.arange(queries)[:, None] >= jnp.arange(keys)[None, :]
        scores = jnp.where(seen, scores, -jnp.inf)
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf) if mask.dtype == jnp.bool_ else scores + mask.astype(scores.dtype)
    return scores


def softmax_with_normaliser(scores: Array) -> tuple[Array, Array]:
    """Return the softmax over the last dimension, zeros in a row of -inf, and the log of its denominator."""
    top = jnp.max(scores, axis=-1, keepdims=True, initial=-jnp.inf)  # there may be no keys
    top = jnp.where(jnp.isfinite(top), top, jnp.zeros_like(top))
    exponentials = jnp.exp(scores - top)
    total = jnp.sum(exponentials, axis=-1, keepdims=True)
    probabilities = exponentials / jnp.where(total == 0, jnp.ones_like(total), total)
    return probabilities, jnp.squeeze(jnp.log(total) + top, -1)


def repeated_heads(value: Array, heads: int) -> Array:
    """Repeat the heads of keys or values, dimension -3, to `heads`: grouped queries share them."""
    return value if value.shape[-3] == heads else jnp.repeat(value, heads // value.shape[-3], axis=-3)


def _attend(
    query: Array, key: Array, value: Array, mask: Array | None, is_causal: bool, scale: float | None
) -> tuple[Array, Array]:
    if query.ndim >= 3:
        key, value = repeated_heads(key, query.shape[-3]), repeated_heads(value, query.shape[-3])
    probabilities, normaliser = softmax_with_normaliser(_scores(query, key, mask, is_causal, scale))
    wide = jnp.promote_types(query.dtype, jnp.float32)
    # The second product takes the values' own dtype: bfloat16 keeps the matrix unit at full speed.
    output = jnp.einsum("...qk,...kd->...qd", probabilities.astype(value.dtype), value, preferred_element_type=wide)
    return output.astype(query.dtype), normaliser


def _refuse_dropout(dropout_p: float) -> None:
    if dropout_p:
        raise NotImplementedError("attention with dropout is lowered as separate operators, not by this one")


@kernel(aten._scaled_dot_product_flash_attention_for_cpu.default)
def flash_attention_for_cpu(
    query: Array,
    key: Array,
    value: Array,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Array | None = None,
    scale: float | None = None,
) -> tuple[Array, Array]:
    """Compute scaled dot-product attention, by two products and a softmax, and the log of each softmax denominator.

    query: [batch, heads, queries, head]; key, value: [batch, key heads, keys, head], whose heads are repeated where the
    query has more. Results: one like `query`, and [batch, heads, queries]. The dispatcher chooses this overload for CPU
    tensors; the algorithm of its CPU kernel is not used. Raises NotImplementedError with dropout.
    Source: ATen `_scaled_dot_product_flash_attention_for_cpu`.
    """
    _refuse_dropout(dropout_p)
    return _attend(query, key, value, attn_mask, is_causal, scale)


@kernel(aten._scaled_dot_product_flash_attention_for_cpu_backward.default)
def flash_attention_for_cpu_backward(
    grad_out: Array,
    query: Array,
    key: Array,
    value: Array,
    out: Array,
    logsumexp: Array,
    dropout_p: float,
    is_causal: bool,
    *,
    attn_mask: Array | None = None,
    scale: float | None = None,
) -> tuple[Array, Array, Array]:
    """Compute the gradients of query, key and value; the scores are computed again from `logsumexp`, not saved.

    Raises NotImplementedError with dropout.
    """
    _refuse_dropout(dropout_p)
    dtype, factor = query.dtype, _scale(query, scale)
    heads = query.shape[-3]
    grouped = key.shape[-3] != heads
    k, v = repeated_heads(key, heads), repeated_heads(value, heads)
    wide = jnp.promote_types(dtype, jnp.float32)

    def product(pattern: str, x: Array, y: Array) -> Array:
        return jnp.einsum(pattern, x, y, preferred_element_type=wide)

    scores = _scores(query, k, attn_mask, is_causal, scale)
    finite = jnp.where(jnp.isfinite(logsumexp), logsumexp, jnp.zeros_like(logsumexp))
    probabilities = jnp.exp(scores - finite[..., None].astype(scores.dtype))
    grad_value = product("...qk,...qd->...kd", probabilities.astype(dtype), grad_out)
    grad_probabilities = product("...qd,...kd->...qk", grad_out, v)
    correction = jnp.sum(_wide(grad_out) * _wide(out), axis=-1, keepdims=True)
    grad_scores = (probabilities * (grad_probabilities - correction) * factor).astype(dtype)
    grad_query = product("...qk,...kd->...qd", grad_scores, k)
    grad_key = product("...qk,...qd->...kd", grad_scores, query)
    if grouped:
        grad_key, grad_value = _sum_repeated_heads(grad_key, key), _sum_repeated_heads(grad_value, value)
    return grad_query.astype(dtype), grad_key.astype(dtype), grad_value.astype(dtype)


@foreign_kernel("tpu_dynamo::attention")
def attention(
    query: Array,
    key: Array,
    value: Array,
    attn_mask: Array | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> tuple[Array, Array]:
    """Compute scaled dot-product attention for tensors on the device, and the log of each softmax denominator.

    query: [..., heads, queries, head]; the heads of key and value are repeated where the query has more.
    """
    return _attend(query, key, value, attn_mask, is_causal, scale)


@foreign_kernel("tpu_dynamo::attention_backward")
def attention_backward(
    grad_out: Array,
    query: Array,
    key: Array,
    value: Array,
    out: Array,
    logsumexp: Array,
    attn_mask: Array | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> tuple[Array, Array, Array]:
    """Compute the gradients of query, key and value; the scores are computed again from `logsumexp`, not saved."""
    return flash_attention_for_cpu_backward(
        grad_out, query, key, value, out, logsumexp, 0.0, is_causal, attn_mask=attn_mask, scale=scale
    )


def _sum_repeated_heads(gradient: Array, like: Array) -> Array:
    shape = (*like.shape[:-2], gradient.shape[-3] // like.shape[-3], *like.shape[-2:])
    return jnp.sum(gradient.reshape(shape), axis=-3)


@kernel(aten._safe_softmax.default)
def safe_softmax(self: Array, dim: int, dtype: torch.dtype | None = None) -> Array:
    """Return the softmax over `dim`, with zeros instead of nan in a row of -inf."""
    moved = jnp.moveaxis(_wide(self), dim, -1)
    return jnp.moveaxis(softmax_with_normaliser(moved)[0], -1, dim)


@kernel(aten._native_multi_head_attention.default)
def native_multi_head_attention(
    query: Array,
    key: Array,
    value: Array,
    embed_dim: int,
    num_head: int,
    qkv_weight: Array,
    qkv_bias: Array,
    proj_weight: Array,
    proj_bias: Array,
    mask: Array | None = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    mask_type: int | None = None,
) -> tuple[Array, Array]:
    """Compute nn.MultiheadAttention's inference path: input projections, attention by heads and the output projection.

    query, key, value: [batch, length, embed]. Results: [batch, length, embed], and the weights: [batch, heads, queries,
    keys], or without the heads if averaged, or empty unless `need_weights`. Source: ATen
    `_native_multi_head_attention`.
    """
    output, weights = _multi_head(
        (query, key, value), num_head, (qkv_weight, qkv_bias, proj_weight, proj_bias), mask, mask_type
    )
    if not need_weights:
        return output, jnp.zeros((0,), query.dtype)
    return output, jnp.mean(weights, axis=1) if average_attn_weights else weights


def _multi_head(
    inputs: tuple[Array, Array, Array],
    heads: int,
    parameters: tuple[Array, Array, Array, Array],
    mask: Array | None,
    mask_type: int | None,
) -> tuple[Array, Array]:
    qkv_weight, qkv_bias, projection, bias = parameters
    weights, biases = jnp.split(qkv_weight, 3), jnp.split(qkv_bias, 3)

    def project(x: Array, weight: Array, offset: Array) -> Array:
        y = jnp.matmul(x, weight.T) + offset
        return y.reshape(*y.shape[:-1], heads, -1).swapaxes(1, 2)

    query, key, value = (project(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True))
    scores = _scores(query, key, None, False, None)
    if mask is not None:
        # 0 is a mask of [length, length], 1 of [batch, length] keys, 2 of the scores' own shape; true hides.
        hidden = {0: lambda: mask, 1: lambda: mask[:, None, None, :], 2: lambda: mask}[mask_type or 0]()
        scores = jnp.where(hidden.astype(jnp.bool_), -jnp.inf, scores)
    probabilities = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    joined = jnp.einsum("bhqk,bhkd->bqhd", probabilities, value)
    return jnp.matmul(joined.reshape(*joined.shape[:2], -1), projection.T) + bias, probabilities


def _layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    wide = _wide(x)
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + eps)).astype(x.dtype) * weight + bias


@kernel(aten._transformer_encoder_layer_fwd.default)
def transformer_encoder_layer_fwd(
    src: Array,
    embed_dim: int,
    num_heads: int,
    qkv_weight: Array,
    qkv_bias: Array,
    proj_weight: Array,
    proj_bias: Array,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: Array,
    norm_bias_1: Array,
    norm_weight_2: Array,
    norm_bias_2: Array,
    ffn_weight_1: Array,
    ffn_bias_1: Array,
    ffn_weight_2: Array,
    ffn_bias_2: Array,
    mask: Array | None = None,
    mask_type: int | None = None,
) -> Array:
    """Compute nn.TransformerEncoderLayer's inference path: attention and feed-forward, with norms and residuals.

    src: [batch, length, embed]. Source: ATen `_transformer_encoder_layer_fwd`.
    """
    parameters = (qkv_weight, qkv_bias, proj_weight, proj_bias)

    def attend(x: Array) -> Array:
        return _multi_head((x, x, x), num_heads, parameters, mask, mask_type)[0]

    def feed(x: Array) -> Array:
        hidden = jnp.matmul(x, ffn_weight_1.T) + ffn_bias_1
        hidden = jax.nn.gelu(hidden, approximate=False) if use_gelu else jax.nn.relu(hidden)
        return jnp.matmul(hidden, ffn_weight_2.T) + ffn_bias_2

    first, second = (norm_weight_1, norm_bias_1, eps), (norm_weight_2, norm_bias_2, eps)
    if norm_first:
        src = src + attend(_layer_norm(src, *first))
        return src + feed(_layer_norm(src, *second))
    src = _layer_norm(src + attend(src), *first)
    return _layer_norm(src + feed(src), *second)
