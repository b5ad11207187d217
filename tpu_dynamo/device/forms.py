"""Operators said in others, with numbers as operands, so that a number that changes compiles nothing anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Values = Any


def _scaled(factor: Values, values: Values) -> Values:
    return values if isinstance(factor, int) and factor == 1 else factor * values


def _add(self: Values, other: Values, alpha: Values = 1) -> Values:
    return self + _scaled(alpha, other)


def _sub(self: Values, other: Values, alpha: Values = 1) -> Values:
    return self - _scaled(alpha, other)


def _div(self: Values, other: Values, rounding_mode: str | None = None) -> Values:
    return torch.div(self, other, rounding_mode=rounding_mode)


# By the operator's name without namespace, overload and underscore; parameters as in the schema, numbers as tensors
# without dimensions.
FORMS: dict[str, Callable[..., Values]] = {
    "add": _add,
    "sub": _sub,
    "mul": lambda self, other: self * other,
    "div": _div,
    "addcmul": lambda self, tensor1, tensor2, value=1: self + _scaled(value, tensor1 * tensor2),
    "addcdiv": lambda self, tensor1, tensor2, value=1: self + _scaled(value, tensor1 / tensor2),
    "lerp": lambda self, end, weight: self + weight * (end - self),
    "fill": lambda self, value: torch.zeros_like(self) + value,
}
