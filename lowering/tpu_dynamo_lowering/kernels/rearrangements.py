"""Values put elsewhere: joined, padded, flipped, rolled, repeated, triangles."""

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
    """Tensors one after the other along a dimension; empty vectors count for nothing, as PyTorch has always had it."""
    real = [tensor for tensor in tensors if tensor.shape != (0,)] or tensors[:1]
    return jnp.concatenate(real, axis=dim)


@kernel(aten.flip.default)
def flip(self: Array, dims: Sequence[int]) -> Array:
    """Dimensions in reverse."""
    return jnp.flip(self, tuple(dims)) if self.ndim else self


@kernel(prims.rev.default)
def rev(a: Array, dims: Sequence[int]) -> Array:
    """Dimensions in reverse."""
    return jnp.flip(a, tuple(dims)) if a.ndim else a


@kernel(aten.roll.default)
def roll(self: Array, shifts: Sequence[int], dims: Sequence[int] = ()) -> Array:
    """Values shifted round dimensions, or round the whole tensor in row-major order."""
    if not dims:
        return jnp.roll(self.reshape(-1), shifts[0]).reshape(self.shape)
    return jnp.roll(self, tuple(shifts), tuple(dims))


@kernel(aten.repeat.default)
def repeat(self: Array, repeats: Sequence[int]) -> Array:
    """The whole tensor, several times along each dimension."""
    return jnp.tile(self, tuple(repeats))


@kernel(aten.repeat_interleave.self_int)
def repeat_interleave(self: Array, repeats: int, dim: int | None = None, *, output_size: int | None = None) -> Array:
    """Each value several times in a row."""
    return jnp.repeat(self, repeats, axis=dim)


@kernel(aten.repeat_interleave.Tensor)
def repeat_interleave_places(repeats: Array, *, output_size: int | None = None) -> Array:
    """Each place of a vector as often as it says: the number of repeats behind each result, found by bisection.

    output_size: the sum of the repeats, which fixes the size of the result.
    """
    ends = jnp.cumsum(repeats)
    return jnp.searchsorted(ends, jnp.arange(output_size, dtype=ends.dtype), side="right")


@kernel(aten.constant_pad_nd.default)
def constant_pad_nd(self: Array, pad: Sequence[int], value: float = 0) -> Array:
    """Constant values before and after the last dimensions; negative amounts cut off."""
    config = [(0, 0, 0)] * self.ndim
    for i in range(len(pad) // 2):
        config[self.ndim - 1 - i] = (pad[2 * i], pad[2 * i + 1], 0)
    return lax.pad(self, checked_number(value, self.dtype), config)


@kernel(aten.triu.default)
def triu(self: Array, diagonal: int = 0) -> Array:
    """The upper triangle."""
    return jnp.triu(self, diagonal)


@kernel(aten.tril.default)
def tril(self: Array, diagonal: int = 0) -> Array:
    """The lower triangle."""
    return jnp.tril(self, diagonal)


@kernel(prims.cat.default)
def prims_cat(tensors: Sequence[Array], dim: int) -> Array:
    """Tensors one after the other along a dimension."""
    return jnp.concatenate(tensors, axis=dim)
