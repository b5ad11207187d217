"""Upsampling on regular grids: nearest, linear and cubic, antialiased or not, and its gradients.

What eager PyTorch computes for each result, places and weights, is computed here while compiling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from jax import Array

from ..table import kernel
from .resampling import (
    ResamplingRule,
    antialiased,
    cubic,
    lanczos,
    linear,
    nearest,
    real_dtype,
    smooth,
    triangle,
    upsampled,
    upsampled_backward,
)

aten = torch.ops.aten


def _enter_nearest(exact: bool, forward: Sequence[Any], backward: Sequence[Any]) -> None:
    """Enter one kind of nearest upsampling in one to three dimensions, and its gradients."""

    @kernel(forward[0])
    def nearest1d(self: Array, output_size: Sequence[int], scales: float | None = None) -> Array:
        """Upsample one dimension by nearest values: repeats, or one gather with constant indices."""
        return upsampled(self, output_size, [nearest(scales, exact)])

    @kernel(forward[1])
    def nearest2d(
        self: Array, output_size: Sequence[int], scales_h: float | None = None, scales_w: float | None = None
    ) -> Array:
        """Upsample two dimensions by nearest values: repeats, or gathers with constant indices."""
        return upsampled(self, output_size, [nearest(scale, exact) for scale in (scales_h, scales_w)])

    @kernel(forward[2])
    def nearest3d(
        self: Array,
        output_size: Sequence[int],
        scales_d: float | None = None,
        scales_h: float | None = None,
        scales_w: float | None = None,
    ) -> Array:
        """Upsample three dimensions by nearest values: repeats, or gathers with constant indices."""
        return upsampled(self, output_size, [nearest(scale, exact) for scale in (scales_d, scales_h, scales_w)])

    @kernel(backward[0])
    def nearest1d_backward(
        grad_output: Array, output_size: Sequence[int], input_size: Sequence[int], scales: float | None = None
    ) -> Array:
        """Compute the gradient of nearest upsampling in one dimension: sums of repeats or one matrix product."""
        return upsampled_backward(grad_output, input_size, [nearest(scales, exact)])

    @kernel(backward[1])
    def nearest2d_backward(
        grad_output: Array,
        output_size: Sequence[int],
        input_size: Sequence[int],
        scales_h: float | None = None,
        scales_w: float | None = None,
    ) -> Array:
        """Compute the gradient of nearest upsampling in two dimensions: sums of repeats or matrix products."""
        return upsampled_backward(grad_output, input_size, [nearest(scale, exact) for scale in (scales_h, scales_w)])

    @kernel(backward[2])
    def nearest3d_backward(
        grad_output: Array,
        output_size: Sequence[int],
        input_size: Sequence[int],
        scales_d: float | None = None,
        scales_h: float | None = None,
        scales_w: float | None = None,
    ) -> Array:
        """Compute the gradient of nearest upsampling in three dimensions: sums of repeats or matrix products."""
        rules = [nearest(scale, exact) for scale in (scales_d, scales_h, scales_w)]
        return upsampled_backward(grad_output, input_size, rules)


_enter_nearest(
    False,
    (aten.upsample_nearest1d.default, aten.upsample_nearest2d.default, aten.upsample_nearest3d.default),
    (
        aten.upsample_nearest1d_backward.default,
        aten.upsample_nearest2d_backward.default,
        aten.upsample_nearest3d_backward.default,
    ),
)
_enter_nearest(
    True,
    (
        aten._upsample_nearest_exact1d.default,
        aten._upsample_nearest_exact2d.default,
        aten._upsample_nearest_exact3d.default,
    ),
    (
        aten._upsample_nearest_exact1d_backward.default,
        aten._upsample_nearest_exact2d_backward.default,
        aten._upsample_nearest_exact3d_backward.default,
    ),
)


@kernel(aten.upsample_linear1d.default)
def upsample_linear1d(
    self: Array, output_size: Sequence[int], align_corners: bool, scales: float | None = None
) -> Array:
    """Upsample one dimension linearly: two gathers with constant indices.

    self: [batch, channels, length]; result: [batch, channels, *output_size]. Source: ATen `upsample_linear1d`.
    """
    return upsampled(self, output_size, [linear(scales, align_corners, real_dtype(self.dtype).type)])


@kernel(aten.upsample_linear1d_backward.default)
def upsample_linear1d_backward(
    grad_output: Array,
    output_size: Sequence[int],
    input_size: Sequence[int],
    align_corners: bool,
    scales: float | None = None,
) -> Array:
    """Compute the gradient of linear upsampling: one product with a constant matrix."""
    rule = linear(scales, align_corners, real_dtype(grad_output.dtype).type)
    return upsampled_backward(grad_output, input_size, [rule])


@kernel(aten.upsample_trilinear3d.default)
def upsample_trilinear3d(
    self: Array,
    output_size: Sequence[int],
    align_corners: bool,
    scales_d: float | None = None,
    scales_h: float | None = None,
    scales_w: float | None = None,
) -> Array:
    """Upsample three dimensions linearly: two gathers with constant indices for each."""
    real = real_dtype(self.dtype).type
    return upsampled(
        self, output_size, [linear(scale, align_corners, real) for scale in (scales_d, scales_h, scales_w)]
    )


@kernel(aten.upsample_trilinear3d_backward.default)
def upsample_trilinear3d_backward(
    grad_output: Array,
    output_size: Sequence[int],
    input_size: Sequence[int],
    align_corners: bool,
    scales_d: float | None = None,
    scales_h: float | None = None,
    scales_w: float | None = None,
) -> Array:
    """Compute the gradient of trilinear upsampling: a product with a constant matrix for each dimension."""
    real = real_dtype(grad_output.dtype).type
    rules = [linear(scale, align_corners, real) for scale in (scales_d, scales_h, scales_w)]
    return upsampled_backward(grad_output, input_size, rules)


def _enter_planar(forward: Any, backward: Any, rule: Callable[[float | None, bool, Any], ResamplingRule]) -> None:
    """Enter a kind of weighted upsampling of two dimensions, and its gradient."""

    @kernel(forward)
    def planar(
        self: Array,
        output_size: Sequence[int],
        align_corners: bool,
        scales_h: float | None = None,
        scales_w: float | None = None,
    ) -> Array:
        """Upsample two dimensions by weighted sums of neighbours, one dimension after the other.

        Gathers with constant indices, or products with constant matrices where many neighbours count. self: [batch,
        channels, height, width]; result: [batch, channels, *output_size].
        """
        real = real_dtype(self.dtype).type
        return upsampled(self, output_size, [rule(scale, align_corners, real) for scale in (scales_h, scales_w)])

    @kernel(backward)
    def planar_backward(
        grad_output: Array,
        output_size: Sequence[int],
        input_size: Sequence[int],
        align_corners: bool,
        scales_h: float | None = None,
        scales_w: float | None = None,
    ) -> Array:
        """Compute the gradient of upsampling two dimensions by weighted sums: a matrix product for each."""
        real = real_dtype(grad_output.dtype).type
        rules = [rule(scale, align_corners, real) for scale in (scales_h, scales_w)]
        return upsampled_backward(grad_output, input_size, rules)


_enter_planar(aten.upsample_bilinear2d.default, aten.upsample_bilinear2d_backward.default, linear)
_enter_planar(aten.upsample_bicubic2d.default, aten.upsample_bicubic2d_backward.default, cubic)
_enter_planar(
    aten._upsample_bilinear2d_aa.default,
    aten._upsample_bilinear2d_aa_backward.default,
    partial(antialiased, 2, triangle),
)
_enter_planar(
    aten._upsample_bicubic2d_aa.default,
    aten._upsample_bicubic2d_aa_backward.default,
    partial(antialiased, 4, smooth),
)
_enter_planar(
    aten._upsample_lanczos2d_aa.default,
    aten._upsample_lanczos2d_aa_backward.default,
    partial(antialiased, 6, lanczos),
)
