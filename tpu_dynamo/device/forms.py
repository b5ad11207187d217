"""Operators said in others: with numbers as operands, so that a number that changes compiles nothing anew; and those
that PyTorch cannot trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Values = Any


def _scaled(factor: Values, values: Values, beside: Values) -> Values:
    """A factor times the values, in the dtype that the values have beside others."""
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


def _gru_cell(
    input_gates: Values,
    hidden_gates: Values,
    hx: Values,
    input_bias: Values | None = None,
    hidden_bias: Values | None = None,
) -> Values:
    """One step of a GRU. Source: ATen `RNN.cu`, whose workspace this keeps: gates, state and hidden part."""
    given = (input_gates if input_bias is None else input_gates + input_bias).chunk(3, -1)
    hidden = (hidden_gates if hidden_bias is None else hidden_gates + hidden_bias).chunk(3, -1)
    reset, update = torch.sigmoid(given[0] + hidden[0]), torch.sigmoid(given[1] + hidden[1])
    new = torch.tanh(given[2] + reset * hidden[2])
    return new + update * (hx - new), torch.cat([reset, update, new, hx, hidden[2]], -1)


def _gru_cell_backward(grad_hy: Values, workspace: Values, has_bias: bool) -> Values:
    """The gradients of both gates, of the state and of both biases."""
    reset, update, new, state, hidden = workspace.chunk(5, -1)
    of_new = grad_hy * (1 - update) * (1 - new**2)
    of_update = grad_hy * (state - new) * update * (1 - update)
    of_reset = of_new * hidden * reset * (1 - reset)
    given = torch.cat([of_reset, of_update, of_new], -1)
    inner = torch.cat([of_reset, of_update, of_new * reset], -1)
    biases = (given.sum(0), inner.sum(0)) if has_bias else (given.new_zeros(0), given.new_zeros(0))
    return given, inner, grad_hy * update, *biases


# By the operator's name without namespace, overload and underscore; parameters as in the schema, numbers as tensors
# without dimensions.
FORMS: dict[str, Callable[..., Values]] = {
    "add": _add,
    "sub": _sub,
    "mul": lambda self, other: self * other,
    "div": _div,
    "addcmul": lambda self, tensor1, tensor2, value=1: self + _scaled(value, tensor1 * tensor2, self),
    "addcdiv": lambda self, tensor1, tensor2, value=1: self + _scaled(value, tensor1 / tensor2, self),
    "lerp": lambda self, end, weight: self + (end - self) * weight,
    "_thnn_fused_gru_cell": _gru_cell,
    "_thnn_fused_gru_cell_backward": _gru_cell_backward,
    "fill": lambda self, value: torch.zeros_like(self) + value,
}
