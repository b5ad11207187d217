"""Operators in terms of others, with numbers as operands, so that another number compiles nothing anew."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch

from tpu_dynamo_lowering import OPTIMIZER_STEPS

Values = Any


def _scaled(factor: Values, values: Values, beside: Values) -> Values:
    """Return `values * factor` in the dtype that promotion with `beside` gives `values`."""
    if isinstance(factor, int) and factor == 1:
        return values
    if isinstance(values, torch.Tensor):
        values = values.to(torch.result_type(beside, values))
        if isinstance(factor, torch.Tensor) and not (values.is_floating_point() or values.is_complex()):
            factor = factor.to(values.dtype)  # integers take the whole part
    return values * factor


def _add(self: Values, other: Values, alpha: Values = 1) -> Values:
    return self + _scaled(alpha, other, self)


def _sub(self: Values, other: Values, alpha: Values = 1) -> Values:
    return self - _scaled(alpha, other, self)


def _div(self: Values, other: Values, rounding_mode: str | None = None) -> Values:
    return torch.div(self, other, rounding_mode=rounding_mode)


def lerp(self: Values, end: Values, weight: Values) -> Values:
    """Interpolate from whichever end is nearer, as PyTorch does: an infinite end stays infinite.

    Source: ATen's `lerp` in Lerp.h.
    """
    way = end - self
    from_self, from_end = self + way * weight, end - way * (1 - weight)
    if isinstance(weight, torch.Tensor):
        return torch.where(weight.abs() < 0.5, from_self, from_end)
    return from_self if abs(weight) < 0.5 else from_end


def _by_position(step: Callable[..., Values]) -> Callable[..., Values]:
    """Return a function that takes the arguments of `step`, some of which go by name alone, in their order."""
    names = list(inspect.signature(step).parameters)

    @functools.wraps(step)
    def call(*args: Values) -> Values:
        return step(**dict(zip(names, args, strict=True)))

    return call


# By the operator's name without namespace and underscore, with its overload if that has a form of its own; the
# parameters are the schema's, with numbers as tensors without dimensions.
FORMS: dict[str, Callable[..., Values]] = {
    "add": _add,
    "sub": _sub,
    "mul": lambda self, other: self * other,
    "div": _div,
    "addcmul": lambda self, tensor1, tensor2, value=1: self + _scaled(value, tensor1 * tensor2, self),
    "addcdiv": lambda self, tensor1, tensor2, value=1: self + _scaled(value, tensor1 / tensor2, self),
    "lerp": lerp,
    "fill": lambda self, value: torch.zeros_like(self) + value,
    **{name: _by_position(step) for name, step in OPTIMIZER_STEPS.items()},
}
