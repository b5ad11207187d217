"""Tensors from nothing: ranges, fills, identity and index patterns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from jax import Array, lax

from ..table import kernel
from .casts import cast_to, filled
from .dtypes import jax_dtype

aten = torch.ops.aten
prims = torch.ops.prims


def _dtype(dtype: torch.dtype | None, *values: Any) -> np.dtype[Any]:
    if dtype is not None:
        return jax_dtype(dtype)
    exact = all(isinstance(v, int) for v in values)
    return jax_dtype(torch.int64 if exact else torch.get_default_dtype())


@kernel(aten.arange.start_step)
def arange_start_step(
    start: float,
    end: float,
    step: float = 1,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool | None = None,
) -> Array:
    """Return the numbers start + i * step from `start` up to, but not including, `end`."""
    wanted = _dtype(dtype, start, end, step)
    count = max(0, int(np.ceil((end - start) / step)))
    if jnp.issubdtype(wanted, jnp.integer):
        return lax.iota(jnp.int64, count) * int(step) + int(start)
    return lax.iota(jnp.float64, count) * step + start


@kernel(aten.range.step)
def range_step(
    start: float,
    end: float,
    step: float = 1,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool | None = None,
) -> Array:
    """Return the numbers start + i * step from `start` up to and including `end`."""
    count = int((end - start) / step) + 1
    return lax.iota(jnp.float64, count) * step + start


@kernel(prims.iota.default)
def iota(length: int, *, start: int, step: int, dtype: torch.dtype, device: Any, requires_grad: bool) -> Array:
    """Return the `length` integers start, start + step, ..."""
    return lax.iota(jnp.int64, length) * step + start


@kernel(aten.full.default)
def full(
    size: Sequence[int],
    fill_value: Any,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool | None = None,
) -> Array:
    """Return a tensor filled with one value.

    Raises NotImplementedError for a number that an integer dtype cannot hold.
    """
    return filled(size, fill_value, None if dtype is None else jax_dtype(dtype))


@kernel(aten.full_like.default)
def full_like(
    self: Array,
    fill_value: Any,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool | None = None,
    memory_format: Any = None,
) -> Array:
    """Return a tensor of `self`'s shape filled with one value.

    Raises NotImplementedError for a number that an integer dtype cannot hold.
    """
    return filled(self.shape, fill_value, self.dtype if dtype is None else jax_dtype(dtype))


@kernel(aten.scalar_tensor.default)
def scalar_tensor(
    s: Any,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool | None = None,
) -> Array:
    """Return a number as a 0-d tensor."""
    return filled((), s, None if dtype is None else jax_dtype(dtype))


@kernel(prims.scalar_tensor.default)
def prims_scalar_tensor(s: Any, *, dtype: torch.dtype | None = None, device: Any = None) -> Array:
    """Return a number as a 0-d tensor."""
    return filled((), s, None if dtype is None else jax_dtype(dtype))


@kernel(aten.fill.Scalar, prims.fill.default)
def fill(self: Array, value: Any) -> Array:
    """Return a tensor of `self`'s shape and dtype filled with one number."""
    return filled(self.shape, value, self.dtype)


@kernel(aten.fill.Tensor)
def fill_tensor(self: Array, value: Array) -> Array:
    """Return a tensor of `self`'s shape and dtype filled with the value of a 0-d tensor."""
    return jnp.broadcast_to(cast_to(value, self.dtype), self.shape)


@kernel(aten.empty.memory_format)
def empty(
    size: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool | None = None,
    memory_format: Any = None,
) -> Array:
    """Return zeros: PyTorch leaves the values unspecified, and a program has no uninitialised memory."""
    return jnp.zeros(tuple(size), _dtype(dtype, 0.0))


@kernel(aten._efficientzerotensor.default)
def efficientzerotensor(
    size: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool | None = None,
) -> Array:
    """Return zeros; PyTorch stores none for this tensor, the gradient of a result that does not depend on the input."""
    return jnp.zeros(tuple(size), _dtype(dtype, 0.0))


@kernel(aten.empty_strided.default)
def empty_strided(
    size: Sequence[int],
    stride: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool | None = None,
) -> Array:
    """Return zeros, where PyTorch leaves the values unspecified."""
    return jnp.zeros(tuple(size), _dtype(dtype, 0.0))


@kernel(prims.empty_strided.default)
def prims_empty_strided(
    shape: Sequence[int], strides: Sequence[int], *, dtype: torch.dtype, device: Any, requires_grad: bool
) -> Array:
    """Return zeros, where PyTorch leaves the values unspecified."""
    return jnp.zeros(tuple(shape), jax_dtype(dtype))


@kernel(prims.empty_permuted.default)
def prims_empty_permuted(
    shape: Sequence[int], physical_layout: Sequence[int], *, dtype: torch.dtype, device: Any, requires_grad: bool
) -> Array:
    """Return zeros, where PyTorch leaves the values unspecified."""
    return jnp.zeros(tuple(shape), jax_dtype(dtype))


@kernel(aten.empty_permuted.default)
def empty_permuted(
    size: Sequence[int],
    physical_layout: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool | None = None,
) -> Array:
    """Return zeros, where PyTorch leaves the values unspecified."""
    return jnp.zeros(tuple(size), _dtype(dtype, 0.0))


@kernel(aten.eye.m)
def eye(
    n: int,
    m: int,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool | None = None,
) -> Array:
    """Return an [n, m] matrix with ones on the diagonal."""
    return jnp.eye(n, m)


@kernel(aten.tril_indices.default)
def tril_indices(
    row: int,
    col: int,
    offset: int = 0,
    *,
    dtype: torch.dtype | None = torch.int64,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool | None = None,
) -> Array:
    """Return the rows and columns, [2, count], of the entries of a lower triangle in row-major order."""
    return jnp.asarray(np.stack(np.tril_indices(row, offset, col)))


@kernel(aten.triu_indices.default)
def triu_indices(
    row: int,
    col: int,
    offset: int = 0,
    *,
    dtype: torch.dtype | None = torch.int64,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool | None = None,
) -> Array:
    """Return the rows and columns, [2, count], of the entries of an upper triangle in row-major order."""
    return jnp.asarray(np.stack(np.triu_indices(row, offset, col)))
