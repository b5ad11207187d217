"""Operators that PyTorch calls by other names on devices from outside, or makes of several there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ._torch_compat import OpOverload

aten = torch.ops.aten

Boxed = Callable[..., Any]


def overrides(eager: Boxed) -> dict[str, Callable[..., Any]]:
    """Return their kernels by name, each a call of the plain operator through `eager`."""

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

    def native_batch_norm(*args: Any) -> Any:
        # Its schema does not say that it changes the running statistics; its successor's does.
        training, running_mean = args[5], args[3]
        if training and running_mean is not None:
            return eager(aten._native_batch_norm_legit.default, *args)
        return eager(aten.native_batch_norm.default, *args)

    def whole(operator: OpOverload) -> Callable[..., Any]:
        # Of PyTorch's own kernel for all devices each part would be a program, and it refuses channels-last inputs.
        return lambda *args: eager(operator, *args)

    def running(operator: OpOverload) -> Callable[..., None]:
        def helper(self: torch.Tensor, values: torch.Tensor, indices: torch.Tensor, dim: int) -> None:
            found = eager(operator, self, dim)
            values.copy_(found[0])
            indices.copy_(found[1])

        return helper

    def conj_physical_(self: torch.Tensor) -> torch.Tensor:
        # PyTorch's own kernel for all devices calls functions that only its own have.
        return eager(aten.conj_physical_.default, self)

    return {
        "conj_physical_": conj_physical_,
        "native_batch_norm": native_batch_norm,
        "native_group_norm": whole(aten.native_group_norm.default),
        "native_layer_norm": whole(aten.native_layer_norm.default),
        "_cummax_helper": running(aten.cummax.default),
        "_cummin_helper": running(aten.cummin.default),
        "convolution_overrideable": convolution,
        "convolution_backward_overrideable": convolution_backward,
    }
