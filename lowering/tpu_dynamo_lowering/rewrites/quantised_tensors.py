"""Tensors of quantised dtypes that do not end in the graph where they begin, and values that were never quantised."""

from __future__ import annotations

import torch
from torch import Tensor

from ..table import rewrites

aten = torch.ops.aten


def _refused(value: Tensor, dtype: torch.dtype) -> NotImplementedError:
    if value.dtype != torch.float32:
        return NotImplementedError(f"quantises {value.dtype}, which eager PyTorch refuses too")
    return NotImplementedError(
        f"gives a tensor of {dtype}, which XLA does not have. A graph may move and dequantise it; to compute on it, "
        "quantise by torch.ops.quantized_decomposed, whose results are plain integers, or the model by PT2E"
    )


@rewrites(aten.quantize_per_tensor.default)
def quantize_per_tensor(self: Tensor, scale: float, zero_point: int, dtype: torch.dtype) -> Tensor:
    """Round values to a grid of float32, where they are dequantised in the same graph."""
    raise _refused(self, dtype)


@rewrites(aten.quantize_per_tensor.tensor_qparams)
def quantize_per_tensor_tensors(self: Tensor, scale: Tensor, zero_point: Tensor, dtype: torch.dtype) -> Tensor:
    """Round values to the grid of a scale and a zero point in tensors, where they are dequantised in the same graph."""
    raise _refused(self, dtype)


@rewrites(aten.dequantize.self)
def dequantize(self: Tensor) -> Tensor:
    """Return values that are not quantised in float32."""
    return self.to(torch.float32)
