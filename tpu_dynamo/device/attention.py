"""Attention on the device as one operator, forward and backward: PyTorch decomposes it for devices from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .host_memory import reachable

# Keys for which attention to more keys than queries is compiled: a multiple of this.
_BLOCK = 64

_FORWARD = (
    "attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, bool is_causal=False, "
    "float? scale=None) -> (Tensor, Tensor)"
)
_BACKWARD = (
    "attention_backward(Tensor grad_out, Tensor query, Tensor key, Tensor value, Tensor out, Tensor logsumexp, "
    "Tensor? attn_mask=None, bool is_causal=False, float? scale=None) -> (Tensor, Tensor, Tensor)"
)


def _fake(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    # Sizes that must agree become guards: nothing else says of changing sizes that a mask is as long as its keys.
    if value.shape[-2] != key.shape[-2]:
        raise ValueError(f"{value.shape[-2]} values for {key.shape[-2]} keys")
    if attn_mask is not None:
        attn_mask.expand(*query.shape[:-1], key.shape[-2])
    wide = torch.promote_types(query.dtype, torch.float32)
    return query.new_empty((*query.shape[:-1], value.shape[-1])), query.new_empty(query.shape[:-1], dtype=wide)


def _fake_backward(
    grad_out: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any, **kwargs: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    query, key, value, mask, ctx.is_causal, ctx.scale = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(query, key, value, *output, mask)


def _backward(ctx: Any, gradient: torch.Tensor, _: Any) -> tuple[Any, ...]:
    query, key, value, out, logsumexp, mask = ctx.saved_tensors
    gradients = torch.ops.tpu_dynamo.attention_backward(
        gradient, query, key, value, out, logsumexp, mask, ctx.is_causal, ctx.scale
    )
    return *gradients, None, None, None


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Compute scaled_dot_product_attention by one operator, or by ATen's composite where that one cannot.

    It cannot drop out, differentiate the mask, or take operands that are not [batch, heads, length, features] with
    equal batches. Source: torch.nn.functional.scaled_dot_product_attention.
    """
    same_batch = query.shape[:-3] == key.shape[:-3] == value.shape[:-3]
    same_heads = query.shape[-3:-2] == key.shape[-3:-2] == value.shape[-3:-2]
    composite = dropout_p > 0 or query.ndim != 4 or not (same_batch and (same_heads or enable_gqa))
    if composite or (attn_mask is not None and attn_mask.requires_grad):
        math = torch.ops.aten._scaled_dot_product_attention_math.default
        return math(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)[0]
    return torch.ops.tpu_dynamo.attention(query, key, value, attn_mask, is_causal, scale)[0]


def _in_blocks(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return keys, values and a mask of a multiple of 64 keys, of which the added ones are not seen.

    They add zeros to the sums. key: [batch, heads, keys, features]. attn_mask: boolean or added to the scores.
    """
    keys = key.shape[-2]
    added = -keys % _BLOCK
    if attn_mask is None:
        attn_mask = torch.ones(query.shape[-2], keys, dtype=torch.bool, device=query.device)
    mask = attn_mask.expand(*attn_mask.shape[:-1], keys)
    unseen = False if mask.dtype == torch.bool else float("-inf")
    padded = [torch.constant_pad_nd(each, [0, 0, 0, added]) for each in (key, value)]
    return padded[0], padded[1], torch.constant_pad_nd(mask, [0, added], unseen)


def _eager_attention(eager: Callable[..., Any]) -> Callable[..., Any]:
    """Return the kernel of the forward operator: a cache that grows by a token compiles one program for 64 tokens.

    On a device with memory of its own each padding would be a program itself, so there every length is one.
    """
    operator = torch.ops.tpu_dynamo.attention.default

    def attention(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        is_causal: bool = False,
        scale: float | None = None,
    ) -> Any:
        grows = not is_causal and query.shape[-2] < key.shape[-2] and key.shape[-2] % _BLOCK
        if grows and reachable():
            key, value, attn_mask = _in_blocks(query, key, value, attn_mask)
        return eager(operator, query, key, value, attn_mask, is_causal, scale)

    return attention


def register_attention(definition: torch.library.Library, eager: Callable[..., Any]) -> list[torch.library.Library]:
    """Define the operators in `definition`, and make attention on the device the first of them.

    eager: the boxed kernel of eager operators, by which the forward operator runs.
    """
    definition.define(_FORWARD)
    definition.define(_BACKWARD)
    torch.library.register_fake("tpu_dynamo::attention", _fake, lib=definition)
    torch.library.register_fake("tpu_dynamo::attention_backward", _fake_backward, lib=definition)
    torch.library.register_autograd("tpu_dynamo::attention", _backward, setup_context=_save_inputs, lib=definition)
    definition.impl("attention", torch.compiler.disable(_eager_attention(eager)), "PrivateUse1")
    libraries = []
    for key in ("AutogradPrivateUse1", "PrivateUse1"):
        ours = torch.library.Library("aten", "IMPL", key)
        ours.impl("scaled_dot_product_attention", _attention)
        libraries.append(ours)
    return libraries
