"""Maximum pooling of every rank, with indices, and its gradients; and the windows that average pooling uses too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import Array, lax

from .._torch_compat import OpOverload
from ..table import kernel
from ..target import ANY, Target
from .call import static
from .indexing import accumulator
from .scatters import scatter_add

aten = torch.ops.aten

# The gradient of windows with more positions than this is a scatter: the alternative adds one term for each position.
_MOST_TAPS = 32


@dataclass(frozen=True)
class Windows:
    """The positions of the windows over the last dimensions: in each field one entry for each of them.

    low, high: the padding before and after. `high` is what the last window needs: with `ceil_mode` it may be more than
    was asked for.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    count: tuple[int, ...]

    def starts(self) -> list[np.ndarray[Any, Any]]:
        """Return, for each dimension, the first position of each window that is not in the padding before it.

        The position may lie past the dimension's end.
        """
        found = []
        for low, stride, dilation, count in zip(self.low, self.stride, self.dilation, self.count, strict=True):
            start = np.arange(count) * stride - low
            found.append(np.where(start < 0, start % dilation, start))
        return found

    def arguments(self, rank: int) -> dict[str, Any]:
        """Return the windows as lax.reduce_window's arguments for an array of `rank` dimensions."""
        lead = rank - len(self.kernel)
        return {
            "window_dimensions": (1,) * lead + self.kernel,
            "window_strides": (1,) * lead + self.stride,
            "padding": ((0, 0),) * lead + tuple(zip(self.low, self.high, strict=True)),
            "window_dilation": (1,) * lead + self.dilation,
        }


def windows_over(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int] | int,
    ceil_mode: bool,
) -> Windows:
    """Return the pooling windows over dimensions of the given sizes.

    Source: `pooling_output_shape` in aten/src/ATen/native/Pool.h.
    """
    rank = len(sizes)
    kernel = static(kernel, rank)
    stride = static(stride, rank) if stride else kernel
    low, dilation = static(padding, rank), static(dilation, rank)
    count, high = [], []
    for n, k, s, p, d in zip(sizes, kernel, stride, low, dilation, strict=True):
        reach = d * (k - 1) + 1
        c = (n + 2 * p - reach + (s - 1 if ceil_mode else 0)) // s + 1
        # The last window begins inside the tensor or its left padding.
        c -= ceil_mode and (c - 1) * s >= n + p
        count.append(c)
        high.append(max(0, (c - 1) * s + reach - n - p))
    return Windows(kernel, stride, dilation, low, tuple(high), tuple(count))


def smallest_value(dtype: Any) -> Any:
    """Return the smallest value of a dtype, -inf for floats."""
    return np.array(-np.inf if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype).min, dtype)


def _largest(self: Array, windows: Windows) -> Array:
    return lax.reduce_window(self, smallest_value(self.dtype), lax.max, **windows.arguments(self.ndim))


def prefer_later(values: Array, places: Array, later: Array, later_places: Array) -> tuple[Array, Array]:
    """Select the larger of two values and its place: the first of equal ones, the second if it is nan.

    A first value in the padding, whose place is -1, always loses.
    """
    won = (later > values) | (later != later) | (places < 0)
    return jnp.where(won, later, values), jnp.where(won, later_places, places)


def flat_places(sizes: Sequence[int]) -> Array:
    """Return each element's row-major position in an array of the given sizes, int32."""
    return lax.iota(jnp.int32, math.prod(sizes)).reshape(tuple(sizes))


def _places_of_largest(self: Array, windows: Windows) -> Array:
    """Return the place of each window's largest value, counted row-major in the unpadded last dimensions.

    One dimension after the other, each a chain of strided slices and selects that XLA fuses: TPUs reduce no windows of
    pairs.
    """
    lead = self.ndim - len(windows.kernel)
    padding = [(0, 0, 0)] * lead + [(low, high, 0) for low, high in zip(windows.low, windows.high, strict=True)]
    places = jnp.broadcast_to(flat_places(self.shape[lead:]), self.shape)
    values, places = lax.pad(self, smallest_value(self.dtype), padding), lax.pad(places, np.int32(-1), padding)
    for dim in reversed(range(len(windows.kernel))):
        stride, count, axis = windows.stride[dim], windows.count[dim], lead + dim
        taps = []
        for start in range(0, windows.kernel[dim] * windows.dilation[dim], windows.dilation[dim]):
            end = start + (count - 1) * stride + 1
            taps.append([lax.slice_in_dim(each, start, end, stride, axis=axis) for each in (values, places)])
        values, places = taps[0]
        for later, later_places in taps[1:]:
            values, places = prefer_later(values, places, later, later_places)
    return jnp.where(places < 0, _place_in_padding(self.shape[lead:], windows), places)


def _place_in_padding(sizes: Sequence[int], windows: Windows) -> np.ndarray[Any, Any]:
    """Return ATen's place for a window that lies in the padding: its first position past the padding before it."""
    total = np.zeros((), np.int64)
    for size, start in zip(sizes, windows.starts(), strict=True):
        total = total[..., None] * size + start
    return total.astype(np.int32)


def _max_pool(
    self: Array,
    rank: int,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> tuple[Array, Array]:
    """Return each window's maximum and its place."""
    windows = windows_over(self.shape[-rank:], kernel_size, stride, padding, dilation, ceil_mode)
    # Two computations, so that XLA removes the second where the indices are not read, as in inference.
    return _largest(self, windows), _places_of_largest(self, windows)


def scatter_by_place(grad_output: Array, self: Array, indices: Array, rank: int) -> Array:
    """Sum a gradient into the row-major places, in the last `rank` dimensions, that it comes from: one scatter."""
    lead = math.prod(self.shape[:-rank])
    size = math.prod(self.shape[-rank:])
    shape = (lead, math.prod(grad_output.shape[-rank:]))
    zeros = jnp.zeros((lead, size), grad_output.dtype)
    return scatter_add(zeros, 1, indices.reshape(shape), grad_output.reshape(shape)).reshape(self.shape)


def _selected(grad_output: Array, self: Array, windows: Windows) -> Array:
    """Sum at each place the gradients of the windows whose maximum is there, by one select_and_scatter.

    Of equal values the first one is chosen, and nan before all others; the first nan, where eager names the last one.
    Sums are rounded as eager rounds them, of half precision too.
    """
    limits = jnp.finfo(self.dtype)
    finite = jnp.clip(self, float(limits.min), float(limits.max))
    keys = jnp.where(jnp.isnan(self), np.asarray(np.inf, self.dtype), finite)
    _, pull = jax.vjp(lambda x: _largest(x, windows), keys)
    (total,) = pull(grad_output)
    return total


def _max_pool_backward(
    grad_output: Array,
    self: Array,
    rank: int,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    indices: Array,
    on_tpu: bool = False,
) -> Array:
    """Sum at each place the gradients of the windows whose maximum is there.

    Selects and pads, which XLA fuses on CPUs. libtpu writes each of the pads, in float32, and the places are dear there
    too: a TPU looks for the maxima again. A scatter is slow on TPUs.
    """
    sizes = self.shape[-rank:]
    windows = windows_over(sizes, kernel_size, stride, padding, dilation, ceil_mode)
    beyond = any((start >= size).any() for size, start in zip(sizes, windows.starts(), strict=True))
    plain = not beyond and set(windows.dilation) == {1} and jnp.issubdtype(self.dtype, jnp.floating)
    if on_tpu and plain and self.size:
        return _selected(grad_output, self, windows)
    if beyond or math.prod(windows.kernel) > _MOST_TAPS:
        return scatter_by_place(grad_output, self, indices, rank)
    lead = self.ndim - rank
    dtype = accumulator(self.dtype)
    # A position in the padding may have the number of one inside; the pads below cut it off.
    indices, grad, zero = indices.astype(jnp.int32), grad_output.astype(dtype), np.zeros((), dtype)
    total = jnp.zeros(self.shape, dtype)
    for tap in np.ndindex(*windows.kernel):
        place: Any = 0
        config = [(0, 0, 0)] * lead
        for dim, offset in enumerate(tap):
            first = offset * windows.dilation[dim] - windows.low[dim]
            count, step = windows.count[dim], windows.stride[dim]
            along = first + step * np.arange(count, dtype=np.int32)
            place = place * sizes[dim] + along.reshape(-1, *(1,) * (rank - 1 - dim))
            config.append((first, sizes[dim] - (first + (count - 1) * step + 1), step - 1))
        total = total + lax.pad(jnp.where(indices == place, grad, zero), zero, config)
    return total


def _enter(rank: int, forward: OpOverload, backward: OpOverload) -> None:
    """Enter maximum pooling over the last `rank` dimensions, and its gradient."""

    @kernel(forward)
    def max_pool_with_indices(
        self: Array,
        kernel_size: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,) * rank,
        dilation: Sequence[int] = (1,) * rank,
        ceil_mode: bool = False,
    ) -> tuple[Array, Array]:
        """Return the maximum of each window, by one reduce_window, and its row-major place in the input.

        The windows are those of the dimensions after batch and channels. torch's decomposition gathers all of them.
        Source: ATen `max_pool2d_with_indices`.
        """
        return _max_pool(self, rank, kernel_size, stride, padding, dilation, ceil_mode)

    @kernel(backward)
    def max_pool_with_indices_backward(
        grad_output: Array,
        self: Array,
        kernel_size: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        ceil_mode: bool,
        indices: Array,
        compiled_for: Target = ANY,
    ) -> Array:
        """Compute the gradient of maximum pooling: a sum of pads, or for large windows one scatter.

        compiled_for: on a TPU the maxima are looked for again, without the indices.
        """
        return _max_pool_backward(
            grad_output, self, rank, kernel_size, stride, padding, dilation, ceil_mode, indices,
            compiled_for.platform == "tpu",
        )  # fmt: skip


_enter(2, aten.max_pool2d_with_indices.default, aten.max_pool2d_with_indices_backward.default)
_enter(3, aten.max_pool3d_with_indices.default, aten.max_pool3d_with_indices_backward.default)
