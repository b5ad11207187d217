"""Rearrangements of values: joining, padding, flipping, rolling, repeating, triangles."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from .dtypes import checked_number

aten = torch.ops.aten
prims = torch.ops.prims


@kernel(aten.cat.default)
def cat(tensors: Sequence[Array], dim: int = 0) -> Array:
    """Concatenate tensors along a dimension; vectors without elements are left out, as PyTorch has always done."""
    real = [tensor for tensor in tensors if tensor.shape != (0,)] or tensors[:1]
    return jnp.concatenate(real, axis=dim)


@kernel(aten.flip.default)
def flip(self: Array, dims: Sequence[int]) -> Array:
    """Reverse the order along dimensions."""
    return jnp.flip(self, tuple(dims)) if self.ndim else self


@kernel(prims.rev.default)
def rev(a: Array, dims: Sequence[int]) -> Array:
    """Reverse the order along dimensions."""
    return jnp.flip(a, tuple(dims)) if a.ndim else a


@kernel(aten.roll.default)
def roll(self: Array, shifts: Sequence[int], dims: Sequence[int] = ()) -> Array:
    """Shift values cyclically along dimensions, or along the flattened tensor if none are given."""
    if not dims:
        return jnp.roll(self.reshape(-1), shifts[0]).reshape(self.shape)
    return jnp.roll(self, tuple(shifts), tuple(dims))


@kernel(aten.repeat.default)
def repeat(self: Array, repeats: Sequence[int]) -> Array:
    """Tile the tensor: repeat it as a whole along each dimension."""
    return jnp.tile(self, tuple(repeats))


@kernel(aten.repeat_interleave.self_int)
def repeat_interleave(self: Array, repeats: int, dim: int | None = None, *, output_size: int | None = None) -> Array:
    """Repeat each value `repeats` times in a row along a dimension."""
    return jnp.repeat(self, repeats, axis=dim)


@kernel(aten.repeat_interleave.Tensor)
def repeat_interleave_places(repeats: Array, *, output_size: int | None = None) -> Array:
    """Repeat each index i of a vector repeats[i] times: each result is found by bisection in the running sums.

    output_size: the sum of the repeats, which the size of the result needs.
    """
    ends = jnp.cumsum(repeats)
    return jnp.searchsorted(ends, jnp.arange(output_size, dtype=ends.dtype), side="right")


@kernel(aten.constant_pad_nd.default)
def constant_pad_nd(self: Array, pad: Sequence[int], value: float = 0) -> Array:
    """Pad the last dimensions with a constant; negative amounts cut off.

    pad: (before, after) of the last dimension, then of the one before, ... Raises NotImplementedError for a constant
    that an integer dtype cannot hold.
    """
    config = [(0, 0, 0)] * self.ndim
    for i in range(len(pad) // 2):
        config[self.ndim - 1 - i] = (pad[2 * i], pad[2 * i + 1], 0)
    return lax.pad(self, checked_number(value, self.dtype), config)


@kernel(aten.triu.default)
def triu(self: Array, diagonal: int = 0) -> Array:
    """Return the upper triangle from `diagonal` on, zeros below."""
    return jnp.triu(self, diagonal)


@kernel(aten.tril.default)
def tril(self: Array, diagonal: int = 0) -> Array:
    """Return the lower triangle up to `diagonal`, zeros above."""
    return jnp.tril(self, diagonal)


@kernel(prims.cat.default)
def prims_cat(tensors: Sequence[Array], dim: int) -> Array:
    """Concatenate tensors along a dimension."""
    return jnp.concatenate(tensors, axis=dim)
