"""Convolutions under the names of the libraries that eager PyTorch chooses among, rewritten as aten.convolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..table import rewrites

aten = torch.ops.aten


@rewrites(aten._convolution.default)
def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    benchmark: bool,
    deterministic: bool,
    cudnn_enabled: bool,
    allow_tf32: bool,
) -> Tensor:
    """Convolve; the switches of cuDNN have no meaning for XLA."""
    return aten.convolution.default(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups)


def _batched(
    self: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int] = (1,),
    output_padding: Sequence[int] | None = None,
) -> Tensor:
    """Convolve a batch or a single sample without groups; transposed if an output padding is given."""
    single = self.ndim < weight.ndim
    result = aten.convolution.default(
        self.unsqueeze(0) if single else self,
        weight,
        bias,
        stride,
        padding,
        dilation,
        output_padding is not None,
        output_padding or (0,),
        1,
    )
    return result.squeeze(0) if single else result


@rewrites(aten._slow_conv2d_forward.default, aten.slow_conv3d_forward.default)
def slow_conv_forward(
    self: Tensor,
    weight: Tensor,
    kernel_size: Sequence[int],
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
) -> Tensor:
    """Convolve in two or three dimensions, as eager PyTorch does by its own loops."""
    # A weight may come as a matrix, [out, in * kernel].
    return _batched(self, weight.reshape(weight.shape[0], -1, *kernel_size), bias, stride, padding)


@rewrites(aten.slow_conv_dilated2d.default)
def slow_conv_dilated2d(
    self: Tensor,
    weight: Tensor,
    kernel_size: Sequence[int],
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
) -> Tensor:
    """Convolve in two dimensions with dilation, as eager PyTorch does by its own loops."""
    return _batched(self, weight, bias, stride, padding, dilation)


@rewrites(aten.slow_conv_dilated3d.default)
def slow_conv_dilated3d(
    self: Tensor,
    weight: Tensor,
    kernel_size: Sequence[int],
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1, 1),
    padding: Sequence[int] = (0, 0, 0),
    dilation: Sequence[int] = (1, 1, 1),
) -> Tensor:
    """Convolve in three dimensions with dilation, as eager PyTorch does by its own loops."""
    return _batched(self, weight, bias, stride, padding, dilation)


@rewrites(aten.slow_conv_transpose2d.default)
def slow_conv_transpose2d(
    self: Tensor,
    weight: Tensor,
    kernel_size: Sequence[int],
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    output_padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
) -> Tensor:
    """Convolve transposed in two dimensions, as eager PyTorch does by its own loops."""
    return _batched(self, weight, bias, stride, padding, dilation, output_padding)


@rewrites(aten.slow_conv_transpose3d.default)
def slow_conv_transpose3d(
    self: Tensor,
    weight: Tensor,
    kernel_size: Sequence[int],
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1, 1),
    padding: Sequence[int] = (0, 0, 0),
    output_padding: Sequence[int] = (0, 0, 0),
    dilation: Sequence[int] = (1, 1, 1),
) -> Tensor:
    """Convolve transposed in three dimensions, as eager PyTorch does by its own loops."""
    return _batched(self, weight, bias, stride, padding, dilation, output_padding)


@rewrites(aten.mkldnn_convolution.default)
def mkldnn_convolution(
    self: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Convolve, as eager PyTorch does by oneDNN."""
    return aten.convolution.default(self, weight, bias, stride, padding, dilation, False, (0,), groups)


@rewrites(aten._nnpack_spatial_convolution.default)
def _nnpack_spatial_convolution(
    input: Tensor, weight: Tensor, bias: Tensor | None, padding: Sequence[int], stride: Sequence[int] = (1, 1)
) -> Tensor:
    """Convolve in two dimensions, as eager PyTorch does by NNPACK."""
    return aten.convolution.default(input, weight, bias, stride, padding, (1,), False, (0,), 1)
