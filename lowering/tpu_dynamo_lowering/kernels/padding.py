"""Reflected and replicated padding, columns of patches, and their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from .indexing import accumulator

aten = torch.ops.aten


def _padded(self: Array, padding: Sequence[int], mode: str) -> Array:
    """Pad the last dimensions, the last one first in `padding`, with their own values; negative amounts cut off.

    jnp.pad makes slices, reversals and one concatenation, where torch's decomposition gathers.
    """
    amounts = [(0, 0)] * self.ndim
    for i in range(len(padding) // 2):
        amounts[self.ndim - 1 - i] = (padding[2 * i], padding[2 * i + 1])
    # Replication repeats the outermost values of the tensor before negative amounts cut it.
    wide = jnp.pad(self, [(max(low, 0), max(high, 0)) for low, high in amounts], mode=mode)
    cuts = tuple(
        slice(max(-low, 0), size - max(-high, 0)) for (low, high), size in zip(amounts, wide.shape, strict=True)
    )
    return wide[cuts]


@kernel(aten.reflection_pad1d.default, aten.reflection_pad2d.default, aten.reflection_pad3d.default)
def reflection_pad(self: Array, padding: Sequence[int]) -> Array:
    """Pad the last dimensions by their mirror image, without doubling the outermost values.

    padding: (before, after) of the last dimension, then of the one before, ...
    """
    return _padded(self, padding, "reflect")


@kernel(aten.replication_pad1d.default, aten.replication_pad2d.default, aten.replication_pad3d.default)
def replication_pad(self: Array, padding: Sequence[int]) -> Array:
    """Pad the last dimensions by repeating their outermost values.

    padding: (before, after) of the last dimension, then of the one before, ...
    """
    return _padded(self, padding, "edge")


def _padded_backward(grad_output: Array, self: Array, padding: Sequence[int], mode: str) -> Array:
    # Half precision is summed in float32.
    like = jax.ShapeDtypeStruct(self.shape, accumulator(self.dtype))
    (grad,) = jax.linear_transpose(lambda x: _padded(x, padding, mode), like)(grad_output.astype(like.dtype))
    return grad


@kernel(
    aten.reflection_pad1d_backward.default,
    aten.reflection_pad2d_backward.default,
    aten.reflection_pad3d_backward.default,
)
def reflection_pad_backward(grad_output: Array, self: Array, padding: Sequence[int]) -> Array:
    """Compute the gradient of reflection_pad's input: pads, reversals and sums."""
    return _padded_backward(grad_output, self, padding, "reflect")


@kernel(
    aten.replication_pad1d_backward.default,
    aten.replication_pad2d_backward.default,
    aten.replication_pad3d_backward.default,
)
def replication_pad_backward(grad_output: Array, self: Array, padding: Sequence[int]) -> Array:
    """Compute the gradient of replication_pad's input: pads and sums."""
    return _padded_backward(grad_output, self, padding, "edge")


def _patch_count(size: int, kernel: int, dilation: int, padding: int, stride: int) -> int:
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


@kernel(aten.im2col.default)
def im2col(
    self: Array, kernel_size: Sequence[int], dilation: Sequence[int], padding: Sequence[int], stride: Sequence[int]
) -> Array:
    """Copy the patches of the last two dimensions into columns: one strided slice for each row and column of a patch.

    self: [batch, channels, height, width] or without the batch; result: [batch, channels * patch, patches].
    Source: ATen `im2col`.
    """
    lead = self.ndim - 3
    value = lax.pad(self, jnp.zeros((), self.dtype), [(0, 0, 0)] * (lead + 1) + [(p, p, 0) for p in padding])
    for dim in range(2):
        count = _patch_count(self.shape[-2 + dim], kernel_size[dim], dilation[dim], padding[dim], stride[dim])
        # From [..., height, width] to [..., kernel height, out height, width]; then the width likewise.
        axis = lead + 1 + 2 * dim
        reach = (count - 1) * stride[dim] + 1
        taps = [
            lax.slice_in_dim(value, k * dilation[dim], k * dilation[dim] + reach, stride[dim], axis=axis)
            for k in range(kernel_size[dim])
        ]
        value = jnp.stack(taps, axis)
    value = jnp.swapaxes(value, lead + 2, lead + 3)
    *batch, channels, height, width, rows, columns = value.shape
    return value.reshape(*batch, channels * height * width, rows * columns)


@kernel(aten.col2im.default)
def col2im(
    self: Array,
    output_size: Sequence[int],
    kernel_size: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Array:
    """Sum columns into the places that im2col takes them from: pads and sums.

    self: [batch, channels * patch, patches] or without the batch; result: [batch, channels, height, width]. Half
    precision is summed in float32. Source: ATen `col2im`.
    """
    lead = self.ndim - 2
    windows = list(zip(output_size, kernel_size, dilation, padding, stride, strict=True))
    counts = [_patch_count(*window) for window in windows]
    channels = self.shape[lead] // math.prod(kernel_size)
    value = self.reshape(*self.shape[:lead], channels, *kernel_size, *counts).astype(accumulator(self.dtype))
    value = jnp.swapaxes(value, lead + 2, lead + 3)
    add: Callable[..., Any] = jnp.logical_or if self.dtype == jnp.bool_ else jnp.add
    for dim in (1, 0):
        size, kernel, dilate, pad, step = windows[dim]
        axis = lead + 1 + 2 * dim
        total: Any = None
        for k in range(kernel):
            tap = lax.index_in_dim(value, k, axis=axis, keepdims=False)
            low = k * dilate - pad
            high = size - (low + (counts[dim] - 1) * step + 1)
            config = [(0, 0, 0)] * tap.ndim
            config[axis] = (low, high, step - 1)
            tap = lax.pad(tap, jnp.zeros((), tap.dtype), config)
            total = tap if total is None else add(total, tap)
        value = total
    return value
