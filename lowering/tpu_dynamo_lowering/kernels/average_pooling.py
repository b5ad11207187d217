"""Average pooling of every rank and its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import Array, lax

from .._torch_compat import OpOverload
from ..table import kernel
from .arithmetic import is_exact
from .indexing import accumulator
from .pooling import Windows, windows_over

aten = torch.ops.aten


def _divisor(sizes: Sequence[int], windows: Windows, count_include_pad: bool) -> np.ndarray[Any, Any]:
    """Return the number that each window's sum is divided by: its positions, those in the padding counted or not."""
    total = np.ones((1,) * len(sizes), np.int64)
    for dim, size in enumerate(sizes):
        low = windows.low[dim]
        start = np.arange(windows.count[dim]) * windows.stride[dim] - low
        # A window that `ceil_mode` lets reach past the padding that was asked for has fewer places.
        end = np.minimum(start + windows.kernel[dim], size + low)
        extent = end - start if count_include_pad else np.minimum(end, size) - np.maximum(start, 0)
        total = total * extent.reshape(-1, *(1,) * (len(sizes) - 1 - dim))
    return total


def _average(
    self: Array,
    rank: int,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Array:
    sizes = self.shape[-rank:]
    windows = windows_over(sizes, kernel_size, stride, padding, 1, ceil_mode)
    dtype = accumulator(self.dtype)
    total = lax.reduce_window(self.astype(dtype), np.zeros((), dtype), lax.add, **windows.arguments(self.ndim))
    divisor = np.asarray(divisor_override or _divisor(sizes, windows, count_include_pad))
    divisor = divisor.reshape(-1)[0] if (divisor == divisor.reshape(-1)[:1]).all() else divisor
    by = jnp.broadcast_to(jnp.asarray(divisor, dtype), total.shape)
    return (lax.div(total, by) if is_exact(total) else total / by).astype(self.dtype)


def _enter(rank: int, forward: OpOverload, backward: OpOverload) -> None:
    """Enter average pooling over the last `rank` dimensions, and its gradient."""

    @kernel(forward)
    def avg_pool(
        self: Array,
        kernel_size: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,) * rank,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Array:
        """Average each window of the dimensions after batch and channels: one reduce_window.

        `divisor_override` replaces each window's number of positions. Source: ATen `avg_pool2d`.
        """
        return _average(self, rank, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)

    @kernel(backward)
    def avg_pool_backward(
        grad_output: Array,
        self: Array,
        kernel_size: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        ceil_mode: bool,
        count_include_pad: bool,
        divisor_override: int | None,
    ) -> Array:
        """Compute the gradient of average pooling: one pad and one reduce_window."""
        arguments = (rank, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        (grad,) = jax.linear_transpose(lambda x: _average(x, *arguments), self)(grad_output)
        return grad


_enter(2, aten.avg_pool2d.default, aten.avg_pool2d_backward.default)
_enter(3, aten.avg_pool3d.default, aten.avg_pool3d_backward.default)
