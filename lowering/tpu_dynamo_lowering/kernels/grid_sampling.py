"""Sampling at the points of a grid in two and three dimensions, and its gradients."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import torch
from jax import Array

from ..table import kernel
from .indexing import accumulator
from .resampling import cubic_weights

aten = torch.ops.aten

_LINEAR, _NEAREST, _CUBIC = range(3)
_ZEROS, _BORDER, _REFLECTION = range(3)


def _unnormalised(points: Array, size: int, align_corners: bool) -> Array:
    """Convert coordinates in [-1, 1] to positions of a dimension.

    Source: aten/src/ATen/native/GridSamplerUtils.h.
    """
    return (points + 1) / 2 * (size - 1) if align_corners else ((points + 1) * size - 1) / 2


def _clipped(places: Array, size: int) -> Array:
    # The gradient of a place on the border is zero, as in PyTorch; jnp.clip would halve it.
    inside = (places > 0) & (places < size - 1)
    return jnp.where(inside, places, jax.lax.stop_gradient(jnp.clip(places, 0, size - 1)))


def _reflected(places: Array, twice_low: int, twice_high: int) -> Array:
    """Move positions between two bounds, given as their doubles, by reflecting them until they lie there."""
    if twice_low == twice_high:
        return jnp.zeros_like(places)
    low, span = twice_low / 2, (twice_high - twice_low) / 2
    distance = jnp.where(places < low, low - places, places - low)
    flips = jnp.floor(jax.lax.stop_gradient(distance) / span)
    rest = jax.lax.rem(distance, jnp.full_like(distance, span))
    return jnp.where(flips % 2 == 0, rest + low, span - rest + low)


def _apply_padding(places: Array, size: int, padding: int, align_corners: bool) -> Array:
    """Move positions into the dimension as the padding mode says; zero padding leaves them."""
    if padding == _ZEROS:
        return places
    if padding == _REFLECTION:
        bounds = (0, 2 * (size - 1)) if align_corners else (-1, 2 * size - 1)
        places = _reflected(places, *bounds)
    return _clipped(places, size)


def _outside_unless_finite(places: Array) -> Array:
    # nan, and numbers that do not fit an int32 index, count as outside, as in PyTorch.
    return jnp.where(jnp.abs(places) < 2**31 - 1, places, -100)


def _value_at(input: Array, places: Sequence[Array]) -> Array:
    """Gather the values at integral positions, [batch, channels, *points], with zero outside the input."""
    sizes, points = input.shape[2:], places[0].shape[1:]
    valid: Any = True
    flat: Any = 0
    for place, size in zip(places, sizes, strict=True):
        valid = valid & (place >= 0) & (place <= size - 1)
        flat = flat * size + jnp.clip(place, 0, size - 1).astype(jnp.int32)
    values = input.reshape(*input.shape[:2], math.prod(sizes))
    read: Callable[..., Array] = jax.vmap(lambda plane, index: jnp.take(plane, index, axis=1, mode="clip"))
    taken = read(values, flat.reshape(flat.shape[0], -1)).reshape(*input.shape[:2], *points)
    return jnp.where(valid[:, None], taken, 0)


def _grid_sample(input: Array, grid: Array, mode: int, padding: int, align_corners: bool) -> Array:
    """Interpolate [batch, channels, *sizes] at a grid of points [batch, *points, rank], the last dimension first."""
    sizes = input.shape[2:]
    rank = len(sizes)
    dtype = accumulator(input.dtype)
    input, grid = input.astype(dtype), grid.astype(dtype)
    raw = [_unnormalised(grid[..., rank - 1 - d], size, align_corners) for d, size in enumerate(sizes)]
    if mode == _CUBIC:
        return _cubic_sample(input, raw, padding, align_corners)
    places = [
        _outside_unless_finite(_apply_padding(p, size, padding, align_corners))
        for p, size in zip(raw, sizes, strict=True)
    ]
    if mode == _NEAREST:
        return _value_at(input, [jnp.round(place) for place in places])
    low = [jnp.floor(place) for place in places]
    total: Any = 0
    for corner in itertools.product((0, 1), repeat=rank):
        weight: Any = 1
        for up, place, start in zip(corner, places, low, strict=True):
            weight = weight * (place - start if up else start + 1 - place)
        value = _value_at(input, [start + up for up, start in zip(corner, low, strict=True)])
        total = total + value * weight[:, None]
    return total


def _cubic_sample(input: Array, raw: Sequence[Array], padding: int, align_corners: bool) -> Array:
    sizes = input.shape[2:]
    low = [jnp.floor(place) for place in raw]
    weights = [cubic_weights(place - start, -0.75) for place, start in zip(raw, low, strict=True)]
    total: Any = 0
    for corner in itertools.product(range(4), repeat=len(sizes)):
        weight: Any = 1
        places = []
        for d, tap in enumerate(corner):
            weight = weight * weights[d][tap]
            places.append(_outside_unless_finite(_apply_padding(low[d] + (tap - 1), sizes[d], padding, align_corners)))
        total = total + _value_at(input, [jnp.round(place) for place in places]) * weight[:, None]
    return total


@kernel(aten.grid_sampler_2d.default, aten.grid_sampler_3d.default)
def grid_sampler(input: Array, grid: Array, interpolation_mode: int, padding_mode: int, align_corners: bool) -> Array:
    """Interpolate at the points of a grid: one gather for each neighbour (1, 4, 8 or, for bicubic, 16).

    input: [batch, channels, *sizes]. grid: [batch, *points, rank], coordinates in [-1, 1], the last dimension's first.
    interpolation_mode: 0 linear, 1 nearest, 2 cubic. padding_mode: 0 zeros, 1 border, 2 reflection.
    Source: ATen `grid_sampler_2d`.
    """
    return _grid_sample(input, grid, interpolation_mode, padding_mode, align_corners)


@kernel(aten.grid_sampler_2d_backward.default, aten.grid_sampler_3d_backward.default)
def grid_sampler_backward(
    grad_output: Array,
    input: Array,
    grid: Array,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
    output_mask: Sequence[bool],
) -> list[Array]:
    """Compute the gradients of grid_sampler's input, if `output_mask` asks for it, and of its grid."""
    wide = grad_output.astype(accumulator(grad_output.dtype))
    arguments = (interpolation_mode, padding_mode, align_corners)
    _, gradients = jax.vjp(lambda x, points: _grid_sample(x, points, *arguments), input, grid)
    grad_input, grad_grid = gradients(wide)
    return [grad_input, grad_grid] if output_mask[0] else [grad_grid]
