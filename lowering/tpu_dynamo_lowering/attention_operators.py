"""Operators of attention whose masks and caps are said in words: what passes write, and kernels compute."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_MASK = (
    "float? scale=None, int? left=None, int? right=None, Tensor? query_segments=None, Tensor? key_segments=None, "
    'Tensor? attn_mask=None, float? cap=None, str unseen="zero"'
)

# Query i sees keys from i - left to i + right, of its own segment: int[1 or batch, queries], int[1 or batch, keys].
# Scores become cap * tanh(scores / cap), before anything is hidden. unseen: what a row that sees nothing is, as Seen.
_library = torch.library.Library("tpu_dynamo_lowering", "DEF")
_library.define(f"attention(Tensor query, Tensor key, Tensor value, {_MASK}) -> (Tensor, Tensor)")
_library.define(
    "attention_backward(Tensor grad_out, Tensor query, Tensor key, Tensor value, Tensor out, Tensor logsumexp, "
    f"{_MASK}) -> (Tensor, Tensor, Tensor)"
)

ATTENTION = torch.ops.tpu_dynamo_lowering.attention.default
ATTENTION_BACKWARD = torch.ops.tpu_dynamo_lowering.attention_backward.default


def _fake(query: Tensor, key: Tensor, value: Tensor, *mask: Any, **more: Any) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(query.dtype, torch.float32)
    return query.new_empty((*query.shape[:-1], value.shape[-1])), query.new_empty(query.shape[:-1], dtype=wide)


def _fake_backward(
    grad_out: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **more: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)


def _probabilities(
    query: Tensor,
    key: Tensor,
    scale: float | None = None,
    left: int | None = None,
    right: int | None = None,
    query_segments: Tensor | None = None,
    key_segments: Tensor | None = None,
    attn_mask: Tensor | None = None,
    cap: float | None = None,
    unseen: str = "zero",
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the scaled products, the probabilities and the log of each denominator, in float32 or wider."""
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    products = query @ key.mT * factor
    scores = products if cap is None else torch.tanh(products / cap) * cap
    queries, keys = (torch.arange(size, device=query.device) for size in scores.shape[-2:])
    hidden = torch.finfo(scores.dtype).min if unseen == "mean" else -torch.inf
    if left is not None:
        scores = scores.masked_fill(keys < queries[:, None] - left, hidden)
    if right is not None:
        scores = scores.masked_fill(keys > queries[:, None] + right, hidden)
    if query_segments is not None and key_segments is not None:
        same = query_segments[:, None, :, None] == key_segments[:, None, None]
        scores = scores.masked_fill(~same, hidden)
    if attn_mask is not None:
        boolean = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, hidden) if boolean else scores + attn_mask
    if unseen != "zero":
        return products, scores.softmax(-1), scores.logsumexp(-1)
    normaliser = scores.logsumexp(-1)
    unseen_rows = normaliser == -torch.inf
    probabilities = scores.softmax(-1).masked_fill(unseen_rows[..., None], 0)
    return products, probabilities, normaliser.masked_fill(unseen_rows, 0)


def _wide(query: Tensor, *others: Tensor) -> list[Tensor]:
    """Return tensors in float32 or wider, those of keys with the heads of the query."""
    dtype = torch.promote_types(query.dtype, torch.float32)
    return [each.to(dtype).repeat_interleave(query.shape[-3] // each.shape[-3], -3) for each in (query, *others)]


def _attention(query: Tensor, key: Tensor, value: Tensor, *mask: Any, **more: Any) -> tuple[Tensor, Tensor]:
    """Compute attention by PyTorch's operators, for graphs that run in eager."""
    wide = _wide(query, key, value)
    _, probabilities, normaliser = _probabilities(wide[0], wide[1], *mask, **more)
    return (probabilities @ wide[2]).to(query.dtype), normaliser


def _attention_backward(
    grad_out: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, logsumexp: Tensor, *mask: Any, **more: Any
) -> tuple[Tensor, Tensor, Tensor]:
    wide, keys, values, gradient = _wide(query, key, value, grad_out)
    given = dict(zip(("scale", "left", "right", "query_segments", "key_segments", "attn_mask", "cap", "unseen"), mask))  # noqa: B905
    given |= more
    products, probabilities, _ = _probabilities(wide, keys, **given)
    factor = query.shape[-1] ** -0.5 if given.get("scale") is None else given["scale"]
    of_scores = torch.ops.aten._softmax_backward_data(gradient @ values.mT, probabilities, -1, probabilities.dtype)
    if (cap := given.get("cap")) is not None:
        of_scores = of_scores * (1 - torch.tanh(products / cap).square())
    of_scores = of_scores * factor
    found = (of_scores @ keys, of_scores.mT @ wide, probabilities.mT @ gradient)
    return tuple(  # pyright: ignore[reportReturnType]
        each.unflatten(-3, (like.shape[-3], -1)).sum(-3).to(like.dtype)
        for each, like in zip(found, (query, key, value), strict=True)
    )


for _name, _eager, _without_values in (
    ("attention", _attention, _fake),
    ("attention_backward", _attention_backward, _fake_backward),
):
    _library.impl(_name, _eager, "CompositeExplicitAutograd")
    torch.library.register_fake(f"tpu_dynamo_lowering::{_name}", _without_values, lib=_library)
