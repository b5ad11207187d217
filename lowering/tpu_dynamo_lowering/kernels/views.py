"""Views: the same values in another shape, order or dtype."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from jax import Array, lax

from ..table import kernel
from .dtypes import jax_dtype

aten = torch.ops.aten
prims = torch.ops.prims


@kernel(aten.view.default, aten._unsafe_view.default)
def view(self: Array, size: Sequence[int]) -> Array:
    """Reshape to another size of as many elements."""
    return self.reshape(tuple(size)) if self.size else jnp.zeros(_size_of_empty(size), self.dtype)


def _size_of_empty(size: Sequence[int]) -> tuple[int, ...]:
    return tuple(0 if extent == -1 else extent for extent in size)


@kernel(aten._reshape_alias.default)
def reshape_alias(self: Array, size: Sequence[int], stride: Sequence[int]) -> Array:
    """Reshape to another size of as many elements; the strides are ignored."""
    return self.reshape(tuple(size))


@kernel(aten.expand.default)
def expand(self: Array, size: Sequence[int], *, implicit: bool = False) -> Array:
    """Broadcast to a size, in which -1 keeps an extent."""
    given = (*(1,) * (len(size) - self.ndim), *self.shape)
    return jnp.broadcast_to(self, tuple(g if s == -1 else s for g, s in zip(given, size, strict=True)))


@kernel(aten.permute.default)
def permute(self: Array, dims: Sequence[int]) -> Array:
    """Reorder the dimensions."""
    return jnp.transpose(self, tuple(dims))


@kernel(aten.transpose.int)
def transpose(self: Array, dim0: int, dim1: int) -> Array:
    """Swap two dimensions."""
    return jnp.swapaxes(self, dim0, dim1) if self.ndim else self


@kernel(aten.t.default)
def t(self: Array) -> Array:
    """Transpose a matrix; vectors stay."""
    return self.T if self.ndim == 2 else self


@kernel(aten.unsqueeze.default)
def unsqueeze(self: Array, dim: int) -> Array:
    """Insert a dimension of size 1."""
    return jnp.expand_dims(self, dim)


@kernel(aten.clone.default)
def clone(self: Array, *, memory_format: Any = None) -> Array:
    """Return the values unchanged: a program does not distinguish copies."""
    return self


@kernel(aten.alias.default, aten.detach.default, aten.lift_fresh.default)
def alias(self: Array) -> Array:
    """Return the values unchanged: a program does not distinguish aliases."""
    return self


@kernel(prims.view_of.default)
def view_of(a: Array) -> Array:
    """Return the values unchanged: a program does not distinguish views."""
    return a


@kernel(aten.squeeze.default)
def squeeze(self: Array) -> Array:
    """Remove all dimensions of size 1."""
    return jnp.squeeze(self)


@kernel(aten.squeeze.dim)
def squeeze_dim(self: Array, dim: int) -> Array:
    """Remove one dimension if its size is 1."""
    return jnp.squeeze(self, dim) if self.ndim and self.shape[dim] == 1 else self


@kernel(aten.squeeze.dims)
def squeeze_dims(self: Array, dim: Sequence[int]) -> Array:
    """Remove those of the given dimensions whose size is 1."""
    gone = tuple(d % self.ndim for d in dim if self.ndim and self.shape[d] == 1)
    return jnp.squeeze(self, gone)


@kernel(aten.view.dtype)
def view_dtype(self: Array, dtype: torch.dtype) -> Array:
    """Reinterpret the bytes as another dtype; the last dimension grows or shrinks."""
    wanted = jax_dtype(dtype)
    before, after = self.dtype.itemsize, wanted.itemsize
    if self.dtype == jnp.bool_:
        self = self.astype(jnp.uint8)
    if wanted == jnp.bool_:
        return self != 0
    if self.dtype == wanted:
        return self
    if jnp.iscomplexobj(self):  # bitcasts know real numbers only
        parts = jnp.stack([self.real, self.imag], -1).reshape(*self.shape[:-1], -1)
        return view_dtype(parts, dtype)
    if jnp.issubdtype(wanted, jnp.complexfloating):
        real = torch.float32 if after == 8 else torch.float64
        parts = view_dtype(self, real)
        return lax.complex(parts[..., ::2], parts[..., 1::2])
    if after > before:
        self = self.reshape(*self.shape[:-1], self.shape[-1] * before // after, after // before)
    result = lax.bitcast_convert_type(self, wanted)
    return result.reshape(*result.shape[:-2], -1) if after < before else result


@kernel(prims.broadcast_in_dim.default)
def broadcast_in_dim(a: Array, shape: Sequence[int], broadcast_dimensions: Sequence[int]) -> Array:
    """Broadcast to a shape in which `broadcast_dimensions` are the places of the input's dimensions."""
    return lax.broadcast_in_dim(a, tuple(shape), tuple(broadcast_dimensions))


@kernel(prims.split_dim.default)
def split_dim(a: Array, dim: int, outer_length: int) -> Array:
    """Split one dimension into two, the first of size `outer_length`."""
    shape = (*a.shape[:dim], outer_length, a.shape[dim] // outer_length, *a.shape[dim + 1 :])
    return a.reshape(shape)


@kernel(prims.collapse_view.default, prims.collapse.default)
def collapse(a: Array, start: int, end: int) -> Array:
    """Collapse the dimensions from `start` to `end`, both included, into one."""
    if a.ndim == 0:
        return a.reshape(1)
    return a.reshape(*a.shape[:start], -1 if a.size else int(np.prod(a.shape[start : end + 1])), *a.shape[end + 1 :])


@kernel(prims.transpose.default)
def prims_transpose(a: Array, permutation: Sequence[int]) -> Array:
    """Reorder the dimensions."""
    return jnp.transpose(a, tuple(permutation))


@kernel(prims.squeeze.default)
def prims_squeeze(a: Array, dimensions: Sequence[int]) -> Array:
    """Remove dimensions of size 1."""
    return jnp.squeeze(a, tuple(dimensions))


@kernel(prims.reshape.default)
def reshape(a: Array, shape: Sequence[int]) -> Array:
    """Reshape to another shape of as many elements."""
    return a.reshape(tuple(shape))
