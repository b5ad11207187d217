"""Operators whose Python numbers torch's decompositions cast differently from eager PyTorch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .._torch_compat import OpOverload, torch_decomposition
from ..table import rewrites

aten = torch.ops.aten


def _number_beside(value: Any, *tensors: Tensor) -> Any:
    """Return a number as an operator casts it to its tensors' dtype: truncated beside integers alone.

    Raises NotImplementedError for an infinity or nan beside integers.
    """
    if not isinstance(value, float) or any(x.is_floating_point() or x.is_complex() for x in tensors):
        return value
    if not math.isfinite(value):
        raise NotImplementedError(f"{value} cannot be converted to {tensors[0].dtype}; eager PyTorch refuses it too")
    return int(value)


def _decomposed(overload: OpOverload, *args: Any, **kwargs: Any) -> Tensor:
    function = torch_decomposition(overload)
    assert function is not None
    return function(*args, **kwargs)


@rewrites(aten.addcmul.default)
def addcmul(self: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """Return self + value * tensor1 * tensor2; beside integers `value` is truncated."""
    factor = _number_beside(value, self, tensor1, tensor2)
    return _decomposed(aten.addcmul.default, self, tensor1, tensor2, value=factor)


@rewrites(aten.threshold.default)
def threshold(self: Tensor, threshold: Any, value: Any) -> Tensor:
    """Return the values above a threshold, and `value` for the others; beside integers both numbers are truncated."""
    return _decomposed(aten.threshold.default, self, _number_beside(threshold, self), _number_beside(value, self))


@rewrites(aten.isin.Scalar_Tensor)
def isin(element: Any, test_elements: Tensor, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Return True if a number equals any element of a tensor, compared as the tensor compares with numbers."""
    found = (test_elements == element).any()
    return ~found if invert else found
