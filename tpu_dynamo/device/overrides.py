"""Operators that PyTorch asks a device for under names of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

aten = torch.ops.aten

Boxed = Callable[..., Any]


def overrides(eager: Boxed) -> dict[str, Callable[..., Any]]:
    """The kernels of those operators, in terms of the plain ones."""

    def convolution(*args: Any) -> torch.Tensor:
        return eager(aten.convolution.default, *args)

    def convolution_backward(
        grad_output: torch.Tensor,
        input: torch.Tensor,
        weight: torch.Tensor,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        transposed: bool,
        output_padding: Sequence[int],
        groups: int,
        output_mask: Sequence[bool],
    ) -> Any:
        bias = [grad_output.shape[1]]
        geometry = stride, padding, dilation, transposed, output_padding, groups, list(output_mask)
        return eager(aten.convolution_backward.default, grad_output, input, weight, bias, *geometry)

    return {
        "convolution_overrideable": convolution,
        "convolution_backward_overrideable": convolution_backward,
    }
