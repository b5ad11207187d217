"""Resampling of dimensions: tables of places and weights, applied to arrays and to gradients.

Each dimension is resampled by itself with a table of places and weights that is computed while compiling, in the
floating-point dtype in which eager PyTorch computes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .indexing import accumulator

# Up to this many values per result, gathers and sums beat a product with a matrix that is mostly zeros.
_MOST_TAPS = 4

_Numbers = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Resampling:
    """A resampling of one dimension: result i is the sum over t of weights[i, t] * values[places[i, t]].

    size: the values' number. weights: None where each result is one of the values.
    """

    size: int
    places: _Numbers
    weights: _Numbers | None

    def factor(self) -> int | None:
        """Return how many times each value is repeated in a row, or None if the resampling is more than that."""
        count = self.places.shape[0]
        if self.weights is not None or not self.size or count % self.size:
            return None
        repeats = count // self.size
        return repeats if (self.places[:, 0] == np.arange(count) // repeats).all() else None

    def matrix(self, dtype: Any) -> _Numbers:
        """Return the resampling as a matrix of [results, values]."""
        found = np.zeros((self.places.shape[0], self.size), dtype)
        weights = np.ones(self.places.shape, dtype) if self.weights is None else self.weights
        np.add.at(found, (np.arange(len(found))[:, None], self.places), weights)
        return found


# Makes the resampling of one dimension from its old and new size.
ResamplingRule = Callable[[int, int], Resampling]


def _ratio(size: int, count: int, align_corners: bool, scale: float | None, real: Any) -> Any:
    """Return the distance between neighbouring results, in places of the values.

    Source: area_pixel_compute_scale in aten/src/ATen/native/UpSample.h.
    """
    if align_corners:
        return real(size - 1) / real(count - 1) if count > 1 else real(0)
    return real(1 / scale) if scale is not None and scale > 0 else real(size) / real(count)


def _sources(size: int, count: int, align_corners: bool, scale: float | None, real: Any) -> _Numbers:
    """Return each result's position among the values."""
    ratio = _ratio(size, count, align_corners, scale, real)
    each = np.arange(count, dtype=real)
    return ratio * each if align_corners else ratio * (each + real(0.5)) - real(0.5)


def nearest(scale: float | None, exact: bool) -> ResamplingRule:
    """Return the rule that takes the value under each result's start or, if `exact`, under its middle."""

    def rule(size: int, count: int) -> Resampling:
        ratio = _ratio(size, count, False, scale, np.float32)
        source = (np.arange(count, dtype=np.float32) + np.float32(0.5 if exact else 0)) * ratio
        return Resampling(size, np.minimum(np.floor(source).astype(np.int32), size - 1)[:, None], None)

    return rule


def linear(scale: float | None, align_corners: bool, real: Any) -> ResamplingRule:
    """Return the rule of linear interpolation between two neighbours."""

    def rule(size: int, count: int) -> Resampling:
        source = np.maximum(_sources(size, count, align_corners, scale, real), 0)
        low = np.minimum(source.astype(np.int32), size - 1)
        part = np.clip(source - low.astype(real), 0, 1)
        places = np.stack([low, np.minimum(low + 1, size - 1)], 1)
        return Resampling(size, places, np.stack([1 - part, part], 1).astype(real))

    return rule


def cubic_weights(part: Any, a: float) -> list[Any]:
    """Return the weights of the four values around a point, `part` of the way from the second to the third."""

    def near(x: Any) -> Any:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: Any) -> Any:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [far(part + 1), near(part), near(1 - part), far(2 - part)]


def cubic(scale: float | None, align_corners: bool, real: Any) -> ResamplingRule:
    """Return the rule of cubic interpolation through four neighbours."""

    def rule(size: int, count: int) -> Resampling:
        source = _sources(size, count, align_corners, scale, real)
        low = np.minimum(np.floor(source).astype(np.int32), size - 1)
        part = np.clip(source - low.astype(real), 0, 1)
        places = np.clip(low[:, None] + np.arange(-1, 3, dtype=np.int32), 0, size - 1)
        return Resampling(size, places, np.stack(cubic_weights(part, -0.75), 1).astype(real))

    return rule


def triangle(x: _Numbers) -> _Numbers:
    """Evaluate the linear filter, which is zero outside [-1, 1]."""
    return np.maximum(1 - np.abs(x), 0)


def smooth(x: _Numbers) -> _Numbers:
    """Evaluate the cubic filter, zero outside [-2, 2], with Pillow's constant, which is not that of cubic_weights."""
    a, x = -0.5, np.abs(x)
    inner, outer = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, inner, np.where(x < 2, outer, 0))


def lanczos(x: _Numbers) -> _Numbers:
    """Evaluate the windowed sinc filter, which is zero outside [-3, 3]."""
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


def antialiased(
    width: int, curve: Callable[[_Numbers], _Numbers], scale: float | None, align_corners: bool, real: Any
) -> ResamplingRule:
    """Return the rule of a filter whose width grows with the ratio of the sizes.

    width: the filter's for a ratio of 1, in values. Source: _compute_indices_min_size_weights_aa in
    aten/src/ATen/native/cpu/UpSampleKernel.cpp.
    """

    def rule(size: int, count: int) -> Resampling:
        ratio = _ratio(size, count, align_corners, scale, real)
        wider = max(ratio, real(1))
        support = real(width / 2) * wider
        centre = ratio * (np.arange(count, dtype=real) + real(0.5))
        low = np.maximum((centre - support + real(0.5)).astype(np.int32), 0)
        high = np.minimum((centre + support + real(0.5)).astype(np.int32), size)
        places = low[:, None] + np.arange(int((high - low).max(initial=1)), dtype=np.int32)
        weights = curve((places - centre[:, None] + real(0.5)) / wider)
        weights = np.where(places < high[:, None], weights, 0)
        weights = weights / weights.sum(1, keepdims=True)
        return Resampling(size, np.minimum(places, size - 1), weights.astype(real))

    return rule


def _multiplied(value: Array, axis: int, matrix: _Numbers) -> Array:
    # Always the highest precision: the one that the user asked for in matrix products would round the weights.
    result = lax.dot_general(value, matrix, (((axis,), (1,)), ((), ())), precision=lax.Precision.HIGHEST)
    return jnp.moveaxis(result, -1, axis)


def _resampled(value: Array, axis: int, how: Resampling) -> Array:
    places, weights = how.places, how.weights
    repeats = how.factor()
    if repeats is not None:
        return jnp.repeat(value, repeats, axis=axis) if repeats > 1 else value
    if weights is None:
        return jnp.take(value, places[:, 0], axis=axis)
    if places.shape[1] > _MOST_TAPS:
        return _multiplied(value, axis, how.matrix(value.dtype))
    total: Any = 0
    for place, weight in zip(places.T, weights.T, strict=True):
        column = weight.astype(value.dtype).reshape(-1, *(1,) * (value.ndim - 1 - axis))
        total = total + jnp.take(value, place, axis=axis) * column
    return total


def _resampled_gradient(grad: Array, axis: int, how: Resampling) -> Array:
    """Compute the gradient of one dimension's resampling: a sum of reshaped values or one product with a matrix."""
    repeats = how.factor()
    if repeats is None:
        return _multiplied(grad, axis, how.matrix(grad.dtype).T)
    shape = grad.shape
    return jnp.sum(grad.reshape(*shape[:axis], how.size, repeats, *shape[axis + 1 :]), axis + 1)


def _fixed_point(value: Array, axis: int, how: Resampling) -> Array:
    """Resize one dimension of uint8 with 16-bit integer weights and round to uint8.

    Source: _compute_index_ranges_int16_weights in aten/src/ATen/native/cpu/UpSampleKernel.cpp.
    """
    # A border value that is used several times has its weights added before they are rounded.
    again = np.diff(how.places, axis=1, prepend=-1) == 0
    real = np.where(again, 0, np.take_along_axis(how.matrix(np.float64), how.places, 1))
    bits = 0
    while bits < 22 and int(0.5 + real.max() * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    weights = np.trunc(real * (1 << bits) + np.copysign(0.5, real)).astype(np.int32)
    total = jnp.int32(1 << (bits - 1))
    for place, weight in zip(how.places.T, weights.T, strict=True):
        column = weight.reshape(-1, *(1,) * (value.ndim - 1 - axis))
        total = total + jnp.take(value, place, axis=axis).astype(jnp.int32) * column
    return jnp.clip(total >> bits, 0, 255).astype(jnp.uint8)


def upsampled(self: Array, output_size: Sequence[int], rules: Sequence[ResamplingRule]) -> Array:
    """Resize the dimensions after batch and channels, the last one first; half precision is summed in float32."""
    ways = [rule(size, count) for size, count, rule in _with_sizes(self.shape, output_size, rules)]
    weighted = any(how.weights is not None for how in ways)
    step = _fixed_point if weighted and self.dtype == jnp.uint8 else _resampled
    result = self.astype(accumulator(self.dtype)) if weighted else self
    for axis in reversed(range(2, self.ndim)):
        result = step(result, axis, ways[axis - 2])
    return result.astype(self.dtype)


def _with_sizes(shape: Sequence[int], output_size: Sequence[int], rules: Sequence[ResamplingRule]) -> Any:
    return zip(shape[2:], output_size, rules, strict=True)


def upsampled_backward(grad_output: Array, input_size: Sequence[int], rules: Sequence[ResamplingRule]) -> Array:
    """Compute the gradient of `upsampled`; half precision is summed in float32."""
    result = grad_output.astype(accumulator(grad_output.dtype))
    for axis, (size, count, rule) in enumerate(_with_sizes(input_size, grad_output.shape[2:], rules), 2):
        result = _resampled_gradient(result, axis, rule(size, count))
    return result


def real_dtype(dtype: Any) -> np.dtype[Any]:
    """Return the dtype of the weights for values of `dtype`: float64 for itself and uint8, else float32."""
    return np.dtype(np.float64 if dtype in (jnp.float64, jnp.uint8) else np.float32)
