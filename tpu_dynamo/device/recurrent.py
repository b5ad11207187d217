"""Meta kernels of the fused steps of GRUs and LSTMs, which PyTorch calls on devices, where it lacks them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ._torch_compat import library, wrap_meta_kernel

aten = torch.ops.aten


def _gru_cell(
    input_gates: torch.Tensor,
    hidden_gates: torch.Tensor,
    hx: torch.Tensor,
    input_bias: torch.Tensor | None = None,
    hidden_bias: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    return hx.new_empty(hx.shape), hx.new_empty((hx.shape[0], 5 * hx.shape[1]))


def _gru_cell_backward(grad_hy: torch.Tensor, workspace: torch.Tensor, has_bias: bool) -> tuple[torch.Tensor, ...]:
    batch, hidden = grad_hy.shape
    bias = (3 * hidden,) if has_bias else (0,)
    gates = grad_hy.new_empty((batch, 3 * hidden)), grad_hy.new_empty((batch, 3 * hidden))
    return *gates, grad_hy.new_empty(grad_hy.shape), grad_hy.new_empty(bias), grad_hy.new_empty(bias)


def _lstm_cell(with_biases: Callable[..., Any]) -> Callable[..., Any]:
    """Return a meta kernel that takes cells without biases itself and leaves others to `with_biases`."""

    def cell(
        input_gates: torch.Tensor,
        hidden_gates: torch.Tensor,
        cx: torch.Tensor,
        input_bias: torch.Tensor | None = None,
        hidden_bias: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if input_bias is not None or hidden_bias is not None:
            return with_biases(input_gates, hidden_gates, cx, input_bias, hidden_bias)
        return cx.new_empty(cx.shape), cx.new_empty(cx.shape), input_gates.new_empty(input_gates.shape)

    return cell


def _lstm_cell_backward(with_biases: Callable[..., Any]) -> Callable[..., Any]:
    """Return a meta kernel like `with_biases`, whose last result, a bias's gradient, has no elements without biases."""

    def backward(
        grad_hy: torch.Tensor | None,
        grad_cy: torch.Tensor | None,
        cx: torch.Tensor,
        cy: torch.Tensor,
        workspace: torch.Tensor,
        has_bias: bool,
    ) -> tuple[torch.Tensor | None, ...]:
        gates, cell, bias = with_biases(grad_hy, grad_cy, cx, cy, workspace, has_bias)
        return gates, cell, bias if has_bias or gates is None else gates.new_empty((0,))

    return backward


def register_recurrent() -> list[torch.library.Library]:
    """Register the meta kernels. Source: ATen `RNN.cu`, which allocates these."""
    ours = library("aten", "Meta")
    ours.impl("_thnn_fused_gru_cell", _gru_cell)
    ours.impl("_thnn_fused_gru_cell_backward", _gru_cell_backward)
    # PyTorch's own for LSTMs fail for a cell without biases: one reads their device, one returns None for a tensor.
    wrap_meta_kernel(ours, aten._thnn_fused_lstm_cell.default, _lstm_cell)
    wrap_meta_kernel(ours, aten._thnn_fused_lstm_cell_backward_impl.default, _lstm_cell_backward)
    return [ours]
