"""Operators of attention whose masks are said in words: what `attention_forms` writes, and kernels compute."""

from __future__ import annotations

import torch

_MASK = "float? scale=None, int? left=None, int? right=None, Tensor? query_segments=None, Tensor? key_segments=None"

# Query i sees keys from i - left to i + right, of its own segment: int[1 or batch, queries], int[1 or batch, keys].
_library = torch.library.Library("tpu_dynamo_lowering", "DEF")
_library.define(f"attention(Tensor query, Tensor key, Tensor value, {_MASK}) -> (Tensor, Tensor)")
_library.define(
    "attention_backward(Tensor grad_out, Tensor query, Tensor key, Tensor value, Tensor out, Tensor logsumexp, "
    f"{_MASK}) -> (Tensor, Tensor, Tensor)"
)

ATTENTION = torch.ops.tpu_dynamo_lowering.attention.default
ATTENTION_BACKWARD = torch.ops.tpu_dynamo_lowering.attention_backward.default
