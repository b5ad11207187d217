"""Attention: scaled dot products in every form that PyTorch's dispatcher gives them, forward and backward."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import torch
from jax import Array

from .. import attention_operators  # noqa: F401  which defines them
from ..table import foreign_kernel, kernel
from ..target import ANY, Target
from .attention_choice import chosen_attention, chosen_gradients
from .dtypes import wide
from .moments import row_moments
from .scaled_dot_products import attention_of
from .seen_keys import Seen, Unseen

aten = torch.ops.aten


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
    compiled_for: Target = ANY,
) -> tuple[Array, Array]:
    """Compute scaled dot-product attention, by two products and a softmax, and the log of each softmax denominator.

    query: [batch, heads, queries, head]; key, value: [batch, key heads, keys, head], whose heads are shared where the
    query has more. Results: one like `query`, and [batch, heads, queries]. The dispatcher chooses this overload for CPU
    tensors; the algorithm of its CPU kernel is not used. compiled_for: by which queries are taken in blocks, or all of
    it is one kernel. Raises NotImplementedError with dropout.
    Source: ATen `_scaled_dot_product_flash_attention_for_cpu`.
    """
    _refuse_dropout(dropout_p)
    return chosen_attention(query, key, value, attn_mask, is_causal, scale, compiled_for)


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
    compiled_for: Target = ANY,
) -> tuple[Array, Array, Array]:
    """Compute the gradients of query, key and value; the scores are computed again from `logsumexp`, not saved.

    Raises NotImplementedError with dropout.
    """
    _refuse_dropout(dropout_p)
    return chosen_gradients(grad_out, query, key, value, out, logsumexp, attn_mask, is_causal, scale, compiled_for)


@foreign_kernel("tpu_dynamo::attention")
def attention(
    query: Array,
    key: Array,
    value: Array,
    attn_mask: Array | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    *,
    compiled_for: Target = ANY,
) -> tuple[Array, Array]:
    """Compute scaled dot-product attention for tensors on the device, and the log of each softmax denominator.

    query: [..., heads, queries, head]; the heads of key and value are shared where the query has more.
    """
    return chosen_attention(query, key, value, attn_mask, is_causal, scale, compiled_for)


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
    *,
    compiled_for: Target = ANY,
) -> tuple[Array, Array, Array]:
    """Compute the gradients of query, key and value; the scores are computed again from `logsumexp`, not saved."""
    return chosen_gradients(grad_out, query, key, value, out, logsumexp, attn_mask, is_causal, scale, compiled_for)


@foreign_kernel("tpu_dynamo_lowering::attention")
def attention_by_number(
    query: Array,
    key: Array,
    value: Array,
    scale: float | None = None,
    left: int | None = None,
    right: int | None = None,
    query_segments: Array | None = None,
    key_segments: Array | None = None,
    attn_mask: Array | None = None,
    cap: float | None = None,
    unseen: Unseen = "zero",
    *,
    compiled_for: Target = ANY,
) -> tuple[Array, Array]:
    """Compute scaled dot-product attention to keys of a query's window and segment, of scores within a cap.

    query: [batch, heads, queries, head]. left, right: how many keys a query sees before and after that of its own
    number, None for all. query_segments: int[1 or batch, queries]; key_segments: int[1 or batch, keys]. attn_mask: as
    `scaled_dot_product_attention` takes it. cap, unseen: as Seen has them.
    """
    seen = Seen(left, right, _segments(query, query_segments), _segments(query, key_segments), cap, unseen)
    return chosen_attention(query, key, value, attn_mask, False, scale, compiled_for, seen)


@foreign_kernel("tpu_dynamo_lowering::attention_backward")
def attention_by_number_backward(
    grad_out: Array,
    query: Array,
    key: Array,
    value: Array,
    out: Array,
    logsumexp: Array,
    scale: float | None = None,
    left: int | None = None,
    right: int | None = None,
    query_segments: Array | None = None,
    key_segments: Array | None = None,
    attn_mask: Array | None = None,
    cap: float | None = None,
    unseen: Unseen = "zero",
    *,
    compiled_for: Target = ANY,
) -> tuple[Array, Array, Array]:
    """Compute the gradients of query, key and value; the scores are computed again from `logsumexp`, not saved."""
    seen = Seen(left, right, _segments(query, query_segments), _segments(query, key_segments), cap, unseen)
    return chosen_gradients(grad_out, query, key, value, out, logsumexp, attn_mask, False, scale, compiled_for, seen)


def _segments(query: Array, segments: Array | None) -> Array | None:
    """Return segments for each batch of a query."""
    return None if segments is None else jnp.broadcast_to(segments, (query.shape[0], segments.shape[-1]))


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
    scores = attention_of(query, key, value, None, False, None).scores()
    if mask is not None:
        # 0 is a mask of [length, length], 1 of [batch, length] keys, 2 of the scores' own shape; true hides.
        hidden = {0: lambda: mask, 1: lambda: mask[:, None, None, :], 2: lambda: mask}[mask_type or 0]()
        scores = jnp.where(hidden.astype(jnp.bool_), -jnp.inf, scores)
    probabilities = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    joined = jnp.einsum("bhqk,bhkd->bqhd", probabilities, value)
    return jnp.matmul(joined.reshape(*joined.shape[:2], -1), projection.T) + bias, probabilities


def _layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    mean, variance = row_moments(x, 1)
    return ((wide(x) - mean) * jax.lax.rsqrt(variance + eps)).astype(x.dtype) * weight + bias


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
