"""Pooling to a size that is asked for: adaptive averages and maxima, fractional maxima, and their gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import Array, lax

from .._torch_compat import OpOverload
from ..table import kernel
from .indexing import accumulator
from .pooling import flat_places, prefer_later, scatter_by_place, smallest_value

aten = torch.ops.aten


def _spans(size: int, count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the start and the end (exclusive) of each of `count` windows over `size` positions.

    Source: aten/src/ATen/native/AdaptivePooling.h.
    """
    each = np.arange(count)
    return each * size // count, -((each + 1) * size // -count)


def _split(value: Array, axis: int, count: int) -> Array:
    """Reshape dimension `axis` into two, [count, size / count]: one row for each window."""
    shape = value.shape
    return value.reshape(*shape[:axis], count, shape[axis] // count, *shape[axis + 1 :])


def _adaptive_mean(self: Array, output_size: Sequence[int]) -> Array:
    """Average over windows, one dimension after the other; half precision is summed in float32."""
    lead = self.ndim - len(output_size)
    result = self.astype(accumulator(self.dtype))
    for axis, count in enumerate(output_size, lead):
        size = result.shape[axis]
        if count and size % count == 0:
            result = jnp.sum(_split(result, axis, count), axis + 1) / (size // count)
            continue
        start, end = _spans(size, count)
        column = (-1, *(1,) * (result.ndim - 1 - axis))
        total: Any = 0
        for tap in range(int((end - start).max(initial=0))):
            taken = jnp.take(result, np.minimum(start + tap, end - 1), axis=axis)
            total = total + jnp.where((start + tap < end).reshape(column), taken, 0)
        length = jnp.asarray((end - start).reshape(column), result.dtype)
        result = total / length if count else lax.slice_in_dim(result, 0, 0, axis=axis)
    return result.astype(self.dtype)


@kernel(aten._adaptive_avg_pool2d.default, aten._adaptive_avg_pool3d.default)
def adaptive_avg_pool(self: Array, output_size: Sequence[int]) -> Array:
    """Average the last dimensions over `output_size` windows, whose lengths differ by at most one.

    self: [..., *sizes]; result: [..., *output_size]. Where a size is a multiple of its number of windows they are
    summed in a reshaped tensor, else in strided sums; torch's decomposition gathers all windows. Source: ATen
    `_adaptive_avg_pool2d`.
    """
    return _adaptive_mean(self, output_size)


def _adaptive_avg_pool_backward(grad_output: Array, self: Array, rank: int) -> Array:
    count = grad_output.shape[-rank:]
    (grad,) = jax.linear_transpose(lambda x: _adaptive_mean(x, count), self)(grad_output)
    return grad


@kernel(aten._adaptive_avg_pool2d_backward.default)
def adaptive_avg_pool2d_backward(grad_output: Array, self: Array) -> Array:
    """Compute the gradient of _adaptive_avg_pool2d's input: each mean's gradient is spread over its window."""
    return _adaptive_avg_pool_backward(grad_output, self, 2)


@kernel(aten._adaptive_avg_pool3d_backward.default)
def adaptive_avg_pool3d_backward(grad_output: Array, self: Array) -> Array:
    """Compute the gradient of _adaptive_avg_pool3d's input: each mean's gradient is spread over its window."""
    return _adaptive_avg_pool_backward(grad_output, self, 3)


def _first_largest(values: Array, places: Array, axis: int) -> tuple[Array, Array]:
    """Return the largest value along `axis` and its place: the first of equal values, but the last nan."""

    def prefer(x: Any, y: Any) -> Any:
        (a, i), (b, j) = x, y
        a_nan, b_nan = a != a, b != b
        won = jnp.where(a_nan | b_nan, b_nan & (~a_nan | (j > i)), (b > a) | ((b == a) & (j < i)))
        return jnp.where(won, b, a), jnp.where(won, j, i)

    # No value is below the first start value, and no place beyond the second: they never win over a real pair.
    start = (smallest_value(values.dtype), np.int32(np.iinfo(np.int32).max))
    return lax.reduce((values, places), start, prefer, (axis,))


@kernel(aten.adaptive_max_pool2d.default, aten.adaptive_max_pool3d.default)
def adaptive_max_pool(self: Array, output_size: Sequence[int]) -> tuple[Array, Array]:
    """Return the maxima of `output_size` windows over the last dimensions and their row-major places in the input.

    self: [..., *sizes]; both results: [..., *output_size]. The dimensions are reduced one after the other; torch's
    decomposition takes only sizes that are multiples of the output's. Source: ATen `adaptive_max_pool2d`.
    """
    lead = self.ndim - len(output_size)
    values, places = self, jnp.broadcast_to(flat_places(self.shape[lead:]), self.shape)
    for axis in reversed(range(lead, self.ndim)):
        size, count = values.shape[axis], output_size[axis - lead]
        if count and size % count == 0:
            values, places = _first_largest(_split(values, axis, count), _split(places, axis, count), axis + 1)
            continue
        start, end = _spans(size, count)
        taken = _tap(values, places, start, axis)
        for tap in range(1, int((end - start).max(initial=0))):
            # A shorter window reads its last value again, which changes nothing.
            taken = prefer_later(*taken, *_tap(values, places, np.minimum(start + tap, end - 1), axis))
        values, places = taken
    return values, places


def _tap(values: Array, places: Array, at: np.ndarray[Any, Any], axis: int) -> tuple[Array, Array]:
    return jnp.take(values, at, axis=axis), jnp.take(places, at, axis=axis)


@kernel(aten.adaptive_max_pool2d_backward.default)
def adaptive_max_pool2d_backward(grad_output: Array, self: Array, indices: Array) -> Array:
    """Compute the gradient of adaptive_max_pool2d's input: one scatter to the maxima's places."""
    return scatter_by_place(grad_output, self, indices, 2)


@kernel(aten.adaptive_max_pool3d_backward.default)
def adaptive_max_pool3d_backward(grad_output: Array, self: Array, indices: Array) -> Array:
    """Compute the gradient of adaptive_max_pool3d's input: one scatter to the maxima's places."""
    return scatter_by_place(grad_output, self, indices, 3)


def _fractional_starts(sample: Array, size: int, count: int, width: int) -> Array:
    """Return where `count` windows of length `width` start in a dimension: [*sample.shape, count], int32.

    sample: a random number in [0, 1) for each plane.
    Source: `generate_intervals` in aten/src/ATen/native/FractionalMaxPooling.h.
    """
    if count <= 1:
        return jnp.full((*sample.shape, count), size - width, jnp.int32)
    alpha = jnp.asarray((size - width) / (count - 1), sample.dtype)
    each = jnp.arange(count - 1, dtype=sample.dtype)
    starts = ((each + sample[..., None]) * alpha).astype(jnp.int32) - (sample[..., None] * alpha).astype(jnp.int32)
    return jnp.concatenate([starts, jnp.full((*sample.shape, 1), size - width, jnp.int32)], -1)


def _fractional(
    self: Array, kernel_size: Sequence[int], output_size: Sequence[int], samples: Sequence[Array]
) -> tuple[Array, Array]:
    """Return the maxima of randomly placed windows and their row-major places: one gather and one reduction.

    samples: for each of the last dimensions, one random number per plane. An input without a batch dimension uses the
    numbers of the first batch.
    """
    rank = len(output_size)
    lead, sizes = self.shape[:-rank], self.shape[-rank:]
    samples = [sample[: math.prod(lead[:-1])].reshape(lead) for sample in samples]
    place: Any = 0
    for dim, (size, count, width) in enumerate(zip(sizes, output_size, kernel_size, strict=True)):
        starts = _fractional_starts(samples[dim], size, count, width)
        along = starts[..., None] + jnp.arange(width, dtype=jnp.int32)
        shape = [1] * (2 * rank)
        shape[dim], shape[rank + dim] = count, width
        place = place * size + along.reshape(*lead, *shape)
    window = (*output_size, math.prod(kernel_size))
    flat = self.reshape(*lead, math.prod(sizes))
    values = jnp.take_along_axis(flat, place.reshape(*lead, math.prod(window)), axis=-1, mode="clip")
    return _first_largest(values.reshape(*lead, *window), place.reshape(*lead, *window), len(lead) + rank)


@kernel(aten.fractional_max_pool2d.default)
def fractional_max_pool2d(
    self: Array, kernel_size: Sequence[int], output_size: Sequence[int], random_samples: Array
) -> tuple[Array, Array]:
    """Return the maxima of windows placed at random in the last two dimensions, and their row-major places.

    random_samples: [batch, channels, 2] in [0, 1), the last dimension's number first.
    Source: ATen `fractional_max_pool2d`.
    """
    return _fractional(self, kernel_size, output_size, [random_samples[..., 1], random_samples[..., 0]])


@kernel(aten.fractional_max_pool3d.default)
def fractional_max_pool3d(
    self: Array, kernel_size: Sequence[int], output_size: Sequence[int], random_samples: Array
) -> tuple[Array, Array]:
    """Return the maxima of windows placed at random in the last three dimensions, and their row-major places.

    random_samples: [batch, channels, 3] in [0, 1). Source: ATen `fractional_max_pool3d`.
    """
    return _fractional(self, kernel_size, output_size, [random_samples[..., dim] for dim in range(3)])


def _enter_fractional_backward(rank: int, overload: OpOverload) -> None:
    @kernel(overload)
    def fractional_max_pool_backward(
        grad_output: Array, self: Array, kernel_size: Sequence[int], output_size: Sequence[int], indices: Array
    ) -> Array:
        """Compute the gradient of fractional_max_pool's input: one scatter to the maxima's places."""
        return scatter_by_place(grad_output, self, indices, rank)


_enter_fractional_backward(2, aten.fractional_max_pool2d_backward.default)
_enter_fractional_backward(3, aten.fractional_max_pool3d_backward.default)
