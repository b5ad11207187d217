"""Grouped matrix products on the device for every dtype: PyTorch's operator takes bfloat16 alone outside of the CPU."""

from __future__ import annotations

from typing import Any

import torch

_SCHEMA = (
    "grouped_mm(Tensor self, Tensor mat2, Tensor? offs=None, Tensor? bias=None, ScalarType? out_dtype=None) -> Tensor"
)


def _fake(
    self: torch.Tensor,
    mat2: torch.Tensor,
    offs: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    size: list[Any] = [self.shape[-2], mat2.shape[-1]]
    if self.ndim == mat2.ndim == 2:
        assert offs is not None
        size = [offs.shape[0], *size]
    elif self.ndim == mat2.ndim == 3:
        size = [self.shape[0], *size]
    return self.new_empty(size, dtype=out_dtype or self.dtype)


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    self, mat2, offs, ctx.bias, _ = inputs
    ctx.save_for_backward(self, mat2, offs)


def _backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
    self, mat2, offs = ctx.saved_tensors
    product = torch.ops.tpu_dynamo.grouped_mm
    of_self = of_mat2 = None
    if ctx.needs_input_grad[0]:
        of_self = product(gradient, mat2.transpose(-2, -1), offs)
    if ctx.needs_input_grad[1]:
        of_mat2 = product(self.transpose(-2, -1), gradient, offs)
    of_bias = gradient.sum(0) if ctx.bias is not None else None
    return of_self, of_mat2, None, of_bias, None


def register_grouped_mm(definition: torch.library.Library) -> list[torch.library.Library]:
    """Define the operator in `definition`, and make torch._grouped_mm call it for tensors of the device."""
    definition.define(_SCHEMA)
    torch.library.register_fake("tpu_dynamo::grouped_mm", _fake, lib=definition)
    torch.library.register_autograd("tpu_dynamo::grouped_mm", _backward, setup_context=_save_inputs, lib=definition)
    ours = torch.library.Library("aten", "IMPL", "AutogradPrivateUse1")
    ours.impl("_grouped_mm", lambda *args, **kwargs: torch.ops.tpu_dynamo.grouped_mm(*args, **kwargs))
    return [ours]
