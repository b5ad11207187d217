"""Sorting: sort, argsort, topk."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from .indexing import narrowed

aten = torch.ops.aten


def _sorted(value: Array, dim: int, descending: bool) -> tuple[Array, Array]:
    """Sort stably and return the values and their positions; nan is greater than every number.

    Descending is ascending from the end, which needs no second key, and in which equal values keep their order. The
    positions are an int32 iota, where the dimension allows it: by that XLA sorts stably without another operand.
    """
    if value.ndim == 0:
        return value, jnp.zeros((), jnp.int64)
    dim %= value.ndim
    extent = value.shape[dim]
    position = narrowed(lax.broadcasted_iota(jnp.int64, value.shape, dim), extent)
    if not descending:
        ordered, index = lax.sort((value, position), dimension=dim, is_stable=True, num_keys=1)
        return ordered, index
    ordered, index = lax.sort((lax.rev(value, (dim,)), position), dimension=dim, is_stable=True, num_keys=1)
    return lax.rev(ordered, (dim,)), extent - 1 - lax.rev(index, (dim,))


@kernel(aten.sort.default)
def sort(self: Array, dim: int = -1, descending: bool = False) -> tuple[Array, Array]:
    """Sort stably along `dim` and return the values and their positions; nan is greater than every number.

    torch-mlir's pattern sorts neither stably nor in descending order correctly. Source: ATen `sort`.
    """
    return _sorted(self, dim, descending)


@kernel(aten.sort.stable)
def sort_stable(self: Array, stable: bool | None, dim: int = -1, descending: bool = False) -> tuple[Array, Array]:
    """Sort along `dim`, stably whether asked or not, and return the values and their positions.

    Source: ATen `sort.stable`.
    """
    return _sorted(self, dim, descending)


@kernel(aten.topk.default)
def topk(self: Array, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Array, Array]:
    """Return the k largest or smallest values along `dim`, in order, and their positions; nan is the largest.

    The largest floats are found by XLA's own top-k, which TPUs have in hardware-friendly form; the rest is a sort.
    torch-mlir's pattern is wrong for integers. Source: ATen `topk`.
    """
    if self.ndim == 0:
        return self, jnp.zeros((), jnp.int64)
    dim %= self.ndim
    if largest and k > 0 and jnp.issubdtype(self.dtype, jnp.floating):
        values, index = jax.lax.top_k(jnp.moveaxis(self, dim, -1), k)
        return jnp.moveaxis(values, -1, dim), jnp.moveaxis(index, -1, dim)
    values, index = _sorted(self, dim, largest)
    return lax.slice_in_dim(values, 0, k, axis=dim), lax.slice_in_dim(index, 0, k, axis=dim)
