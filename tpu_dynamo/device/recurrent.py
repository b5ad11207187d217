"""Shapes of a GRU's step, which PyTorch calls fused on devices and cannot trace: it has no meta kernels for it."""

from __future__ import annotations

import torch

from ._torch_compat import library


def _cell(
    input_gates: torch.Tensor,
    hidden_gates: torch.Tensor,
    hx: torch.Tensor,
    input_bias: torch.Tensor | None = None,
    hidden_bias: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    return hx.new_empty(hx.shape), hx.new_empty((hx.shape[0], 5 * hx.shape[1]))


def _cell_backward(grad_hy: torch.Tensor, workspace: torch.Tensor, has_bias: bool) -> tuple[torch.Tensor, ...]:
    batch, hidden = grad_hy.shape
    bias = (3 * hidden,) if has_bias else (0,)
    gates = grad_hy.new_empty((batch, 3 * hidden)), grad_hy.new_empty((batch, 3 * hidden))
    return *gates, grad_hy.new_empty(grad_hy.shape), grad_hy.new_empty(bias), grad_hy.new_empty(bias)


def register_recurrent() -> list[torch.library.Library]:
    """Register the meta kernels. Source: ATen `RNN.cu`, which allocates these."""
    ours = library("aten", "Meta")
    ours.impl("_thnn_fused_gru_cell", _cell)
    ours.impl("_thnn_fused_gru_cell_backward", _cell_backward)
    return [ours]
