"""Operators whose Python numbers torch's decompositions take otherwise than eager does."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .._torch_compat import torch_decomposition
from ..table import rewrites

aten = torch.ops.aten


@rewrites(aten.addcmul.default)
def addcmul(self: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """self + value * tensor1 * tensor2; integers take the whole part of the factor, which must be one of theirs."""
    decomposed = torch_decomposition(aten.addcmul.default)
    assert decomposed is not None
    kinds = self, tensor1, tensor2
    if isinstance(value, float) and not any(x.is_floating_point() or x.is_complex() for x in kinds):
        if not math.isfinite(value):
            raise NotImplementedError(f"{value} cannot be converted to {self.dtype}, which eager refuses too")
        value = int(value)
    return decomposed(self, tensor1, tensor2, value=value)


@rewrites(aten.isin.Scalar_Tensor)
def isin(element: Any, test_elements: Tensor, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Whether a number is among a tensor's values, compared as the tensor compares with numbers."""
    found = (test_elements == element).any()
    return ~found if invert else found
