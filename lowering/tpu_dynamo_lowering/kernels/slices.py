"""Parts of tensors: selections, slices, diagonals, splits, windows and strided memory, with their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from jax import Array, lax

from ..table import kernel
from .casts import cast_to

aten = torch.ops.aten


def clamped_range(extent: int, start: int | None, end: int | None, step: int = 1) -> tuple[int, int]:
    """Return a slice's bounds within a dimension: negative ones from the end, others cut off, and end >= start.

    Autograd writes `end` as the largest int64, which torch-mlir's pattern for slice_scatter counts up to.
    """
    start, end, _ = slice(start, end, step).indices(extent)
    return start, max(start, end)


@kernel(aten.slice.Tensor)
def slice_(self: Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Array:
    """Take every step-th place from `start` to `end` along a dimension."""
    dim %= self.ndim
    start, end = clamped_range(self.shape[dim], start, end, step)
    return lax.slice_in_dim(self, start, end, step, axis=dim)


@kernel(aten.select.int)
def select(self: Array, dim: int, index: int) -> Array:
    """Take one place along a dimension and remove that dimension."""
    return lax.index_in_dim(self, index, axis=dim % self.ndim, keepdims=False)


@kernel(aten.slice_scatter.default)
def slice_scatter(
    self: Array, src: Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Array:
    """Replace a slice of `self` by `src`.

    torch-mlir's pattern needs memory up to `end`, which autograd sets to the largest int64.
    """
    dim %= self.ndim
    start, end = clamped_range(self.shape[dim], start, end, step)
    place = (slice(None),) * dim + (slice(start, end, step),)
    return self.at[place].set(cast_to(jnp.broadcast_to(src, self[place].shape), self.dtype))


@kernel(aten.select_scatter.default)
def select_scatter(self: Array, src: Array, dim: int, index: int) -> Array:
    """Replace one place of `self` along a dimension by `src`."""
    return self.at[(slice(None),) * (dim % self.ndim) + (index,)].set(cast_to(src, self.dtype))


@kernel(aten.slice_backward.default)
def slice_backward(grad_output: Array, input_sizes: Sequence[int], dim: int, start: int, end: int, step: int) -> Array:
    """Compute the gradient of a slice: zeros with `grad_output` in its place, by one pad."""
    dim %= len(input_sizes)
    start, _ = clamped_range(input_sizes[dim], start, end, step)
    taken = grad_output.shape[dim]
    if taken == 0:
        return jnp.zeros(tuple(input_sizes), grad_output.dtype)
    after = input_sizes[dim] - (start + (taken - 1) * step + 1)
    config = [(0, 0, 0)] * len(input_sizes)
    config[dim] = (start, after, step - 1)
    return lax.pad(grad_output, jnp.zeros((), grad_output.dtype), config)


@kernel(aten.select_backward.default)
def select_backward(grad_output: Array, input_sizes: Sequence[int], dim: int, index: int) -> Array:
    """Compute the gradient of a selection: zeros with `grad_output` at one place of a dimension, by one pad."""
    dim %= len(input_sizes)
    before = index % input_sizes[dim]
    config = [(0, 0, 0)] * len(input_sizes)
    config[dim] = (before, input_sizes[dim] - before - 1, 0)
    return lax.pad(jnp.expand_dims(grad_output, dim), jnp.zeros((), grad_output.dtype), config)


@kernel(aten.diagonal.default)
def diagonal(self: Array, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Array:
    """Take a diagonal of two dimensions, as the last dimension."""
    return jnp.diagonal(self, offset, dim1, dim2)


def _diagonal_place(sizes: Sequence[int], offset: int, dim1: int, dim2: int) -> tuple[Any, ...]:
    rank = len(sizes)
    dim1, dim2 = dim1 % rank, dim2 % rank
    row, column = max(-offset, 0), max(offset, 0)
    length = max(0, min(sizes[dim1] - row, sizes[dim2] - column))
    place: list[Any] = [slice(None)] * rank
    place[dim1], place[dim2] = np.arange(length) + row, np.arange(length) + column
    return tuple(place)


def _scatter_diagonal(into: Array, source: Array, offset: int, dim1: int, dim2: int) -> Array:
    dim1, dim2 = dim1 % into.ndim, dim2 % into.ndim
    into = jnp.moveaxis(into, (dim1, dim2), (-2, -1))
    into = into.at[(..., *_diagonal_place(into.shape[-2:], offset, 0, 1))].set(source.astype(into.dtype))
    return jnp.moveaxis(into, (-2, -1), (dim1, dim2))


@kernel(aten.diagonal_scatter.default)
def diagonal_scatter(self: Array, src: Array, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Array:
    """Replace a diagonal of two dimensions of `self` by `src`."""
    return _scatter_diagonal(self, src, offset, dim1, dim2)


@kernel(aten.diagonal_backward.default)
def diagonal_backward(grad_output: Array, input_sizes: Sequence[int], offset: int, dim1: int, dim2: int) -> Array:
    """Compute the gradient of a diagonal: zeros with `grad_output` on it."""
    return _scatter_diagonal(jnp.zeros(tuple(input_sizes), grad_output.dtype), grad_output, offset, dim1, dim2)


@kernel(aten.split_with_sizes.default)
def split_with_sizes(self: Array, split_sizes: Sequence[int], dim: int = 0) -> list[Array]:
    """Split along a dimension into pieces of the given sizes."""
    ends = np.cumsum(split_sizes)
    return [
        lax.slice_in_dim(self, int(end - size), int(end), axis=dim % self.ndim)
        for size, end in zip(split_sizes, ends, strict=True)
    ]


@kernel(aten.split.Tensor)
def split(self: Array, split_size: int, dim: int = 0) -> list[Array]:
    """Split along a dimension into pieces of one size, the last one smaller if need be."""
    extent = self.shape[dim]
    starts = range(0, extent, split_size) if extent else (0,)
    return [lax.slice_in_dim(self, s, min(s + split_size, extent), axis=dim % self.ndim) for s in starts]


@kernel(aten.unbind.int)
def unbind(self: Array, dim: int = 0) -> list[Array]:
    """Split along a dimension into its places and remove that dimension."""
    return [lax.index_in_dim(self, i, axis=dim % self.ndim, keepdims=False) for i in range(self.shape[dim])]


@kernel(aten.unfold.default)
def unfold(self: Array, dimension: int, size: int, step: int) -> Array:
    """Copy the windows of `size` places, `step` apart, of a dimension into a new last dimension."""
    if self.ndim == 0:
        return self.reshape(1)[:size]
    count = (self.shape[dimension] - size) // step + 1
    places = np.arange(count)[:, None] * step + np.arange(size)[None, :]
    taken = jnp.take(self, places, axis=dimension)
    return jnp.moveaxis(taken, dimension % self.ndim + 1, -1)


@kernel(aten.unfold_backward.default)
def unfold_backward(grad_in: Array, input_sizes: Sequence[int], dim: int, size: int, step: int) -> Array:
    """Compute the gradient of unfold: at each place the sum over the windows that hold it."""
    zeros = jnp.zeros(tuple(input_sizes), grad_in.dtype)
    if zeros.ndim == 0:
        return jnp.sum(grad_in)  # there is one window, or none
    dim %= zeros.ndim
    count = grad_in.shape[dim]
    places = np.arange(count)[:, None] * step + np.arange(size)[None, :]
    windows = jnp.moveaxis(grad_in, -1, dim + 1)
    return zeros.at[(slice(None),) * dim + (places,)].add(windows)
