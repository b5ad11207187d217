"""Second names of operators, which PyTorch's own kernels and its autograd use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..table import rewrites

aten = torch.ops.aten


@rewrites(aten._aminmax.default)
def _aminmax(self: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest value."""
    return torch.aminmax(self)


@rewrites(aten._aminmax.dim)
def _aminmax_dim(self: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest value along a dimension."""
    return torch.aminmax(self, dim=dim, keepdim=keepdim)


@rewrites(aten._is_all_true.default)
def _is_all_true(self: Tensor) -> Tensor:
    """Return True if all values of a mask are true."""
    return self.all()


@rewrites(aten._is_any_true.default)
def _is_any_true(self: Tensor) -> Tensor:
    """Return True if any value of a mask is true."""
    return self.any()


@rewrites(aten._logcumsumexp.default)
def _logcumsumexp(self: Tensor, dim: int) -> Tensor:
    """Compute the log of the running sum of exp along `dim`."""
    return torch.logcumsumexp(self, dim)


@rewrites(aten._stack.default)
def _stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Stack tensors along a new dimension."""
    return torch.stack(list(tensors), dim)


@rewrites(aten._lazy_clone.default)
def _lazy_clone(self: Tensor) -> Tensor:
    """Return the values unchanged."""
    return self.clone()


@rewrites(aten._add_relu.Tensor)
def _add_relu(self: Tensor, other: Tensor, *, alpha: Any = 1) -> Tensor:
    """Return relu(self + alpha * other)."""
    return torch.relu(torch.add(self, other, alpha=alpha))


@rewrites(aten._add_relu.Scalar)
def _add_relu_scalar(self: Tensor, other: Any, alpha: Any = 1) -> Tensor:
    """Return relu(self + alpha * other) for a number `other`."""
    return torch.relu(torch.add(self, other, alpha=alpha))


@rewrites(aten.convolution_backward_overrideable.default)
def convolution_backward_overrideable(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Tensor, ...]:
    """Compute the gradients of a convolution's input, weight and bias."""
    return aten.convolution_backward.default(
        grad_output,
        input,
        weight,
        [weight.shape[1] * groups if transposed else weight.shape[0]],
        stride,
        padding,
        dilation,
        transposed,
        output_padding,
        groups,
        output_mask,
    )


@rewrites(aten._slow_conv2d_backward.output_mask)
def _slow_conv2d_backward(
    grad_output: Tensor,
    self: Tensor,
    weight: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    output_mask: Sequence[bool],
) -> tuple[Tensor, ...]:
    """Compute the gradients of a two-dimensional convolution's input, weight and bias."""
    return aten.convolution_backward.default(
        grad_output, self, weight, [weight.shape[0]], stride, padding, (1,), False, (0,), 1, output_mask
    )


def _number(value: Any, like: Tensor) -> Tensor:
    """Return a number as a 0-d tensor that does not change the dtype of a floating-point function of `like`."""
    dtype = like.dtype if like.is_floating_point() else torch.get_default_dtype()
    return torch.full((), value, dtype=dtype, device=like.device)


@rewrites(aten.special_zeta.other_scalar)
def special_zeta_other_scalar(self: Tensor, other: Any) -> Tensor:
    """Compute Hurwitz's zeta function at a number; torch's decomposition takes tensors only."""
    return torch.special.zeta(self, _number(other, self))


@rewrites(aten.special_zeta.self_scalar)
def special_zeta_self_scalar(self: Any, other: Tensor) -> Tensor:
    """Compute Hurwitz's zeta function of a numeric order; torch's decomposition takes tensors only."""
    return torch.special.zeta(_number(self, other), other)
