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
    """Numbers from `start` up to `end`, each computed as start + i * step."""
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
    """Numbers from `start` up to and with `end`."""
    count = int((end - start) / step) + 1
    return lax.iota(jnp.float64, count) * step + start


@kernel(prims.iota.default)
def iota(length: int, *, start: int, step: int, dtype: torch.dtype, device: Any, requires_grad: bool) -> Array:
    """`length` integers from `start` by `step`."""
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
    """One value everywhere."""
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
    """One value everywhere, in another tensor's shape."""
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
    """A number as a tensor without dimensions."""
    return filled((), s, None if dtype is None else jax_dtype(dtype))


@kernel(prims.scalar_tensor.default)
def prims_scalar_tensor(s: Any, *, dtype: torch.dtype | None = None, device: Any = None) -> Array:
    """A number as a tensor without dimensions."""
    return filled((), s, None if dtype is None else jax_dtype(dtype))


@kernel(aten.fill.Scalar, prims.fill.default)
def fill(self: Array, value: Any) -> Array:
    """One value everywhere."""
    return filled(self.shape, value, self.dtype)


@kernel(aten.fill.Tensor)
def fill_tensor(self: Array, value: Array) -> Array:
    """The value of a 0-d tensor everywhere."""
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
    """Unspecified values in PyTorch; zeros here, since a program has no uninitialised memory."""
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
    """Zeros, which PyTorch does not store: the gradient of what does not depend on its input."""
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
    """Unspecified values in PyTorch; zeros here."""
    return jnp.zeros(tuple(size), _dtype(dtype, 0.0))


@kernel(prims.empty_strided.default)
def prims_empty_strided(
    shape: Sequence[int], strides: Sequence[int], *, dtype: torch.dtype, device: Any, requires_grad: bool
) -> Array:
    """Unspecified values in PyTorch; zeros here."""
    return jnp.zeros(tuple(shape), jax_dtype(dtype))


@kernel(prims.empty_permuted.default)
def prims_empty_permuted(
    shape: Sequence[int], physical_layout: Sequence[int], *, dtype: torch.dtype, device: Any, requires_grad: bool
) -> Array:
    """Unspecified values in PyTorch; zeros here."""
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
    """Unspecified values in PyTorch; zeros here."""
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
    """Ones on the diagonal."""
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
    """Row and column of each place of a lower triangle."""
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
    """Row and column of each place of an upper triangle."""
    return jnp.asarray(np.stack(np.triu_indices(row, offset, col)))
