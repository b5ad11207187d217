"""Functions of matrices: exponentials and sums of powers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import torch
from jax import Array

from ..table import kernel
from .dtypes import jax_dtype
from .reductions import Dims, axes, wide

aten = torch.ops.aten


@kernel(aten.linalg_matrix_exp.default)
def linalg_matrix_exp(self: Array) -> Array:
    """The exponential of each matrix, by scaling, a Padé approximant and squaring."""
    if self.size == 0:
        return self
    return jax.scipy.linalg.expm(wide(self), max_squarings=64)


@kernel(aten.linalg__powsum.default)
def linalg_powsum(
    self: Array, ord: float = 2, dim: Dims = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Array:
    """The sum of absolute values to a power, over dimensions: a vector norm before its root."""
    value = wide(self if dtype is None else self.astype(jax_dtype(dtype)))
    return jnp.sum(jnp.power(jnp.abs(value), ord), axis=axes(dim, self.ndim), keepdims=keepdim)
