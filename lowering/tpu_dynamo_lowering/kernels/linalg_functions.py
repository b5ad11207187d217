"""Functions of matrices and vectors: exponentials, cross products, sums of powers."""

from __future__ import annotations

import math

import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from .dtypes import jax_dtype
from .reductions import Dims, axes, wide

aten = torch.ops.aten

# The largest 1-norm, by the bytes of a real number, for which Taylor's polynomial of degree 18 is exact to rounding.
# Source: Bader, Blanes, Casas, "Computing the matrix exponential with an optimized Taylor polynomial
# approximation", 2019, which PyTorch follows too.
_TAYLOR_REACH = {4: 3.010066362817634, 8: 1.090863719290036}


def _taylor(matrix: Array) -> Array:
    """Evaluate exp's Taylor polynomial of degree 18 by Paterson and Stockmeyer's scheme: seven products."""
    one = jnp.broadcast_to(jnp.eye(matrix.shape[-1], dtype=matrix.dtype), matrix.shape)
    square = matrix @ matrix
    cube = square @ matrix
    total = one / math.factorial(18)
    for k in range(15, -1, -3):
        block = one / math.factorial(k) + matrix / math.factorial(k + 1) + square / math.factorial(k + 2)
        total = cube @ total + block
    return total


@kernel(aten.linalg_matrix_exp.default)
def linalg_matrix_exp(self: Array) -> Array:
    """Compute each matrix's exponential: scale it down, evaluate a Taylor polynomial and square the result back up.

    Products only, which a TPU does best: a Padé approximant would need a solve. A matrix with nan or infinities gives
    nan.
    """
    if self.size == 0:
        return self
    matrix = wide(self)
    real = matrix.real.dtype
    norm = jnp.max(jnp.sum(jnp.abs(matrix), axis=-2), axis=-1)
    squarings = jnp.maximum(jnp.ceil(jnp.log2(norm / _TAYLOR_REACH[real.itemsize])), 0)
    finite = jnp.isfinite(squarings)
    most = jnp.max(jnp.where(finite, squarings, 0))
    # Scale down in two steps: the reciprocal of the largest norms is subnormal.
    whole = jnp.where(finite, squarings, 0).astype(jnp.int32)
    for step in (whole // 2, whole - whole // 2):
        matrix = matrix * jnp.ldexp(jnp.ones((), real), -step)[..., None, None].astype(matrix.dtype)

    def square(state: tuple[Array, Array]) -> tuple[Array, Array]:
        k, power = state
        return k + 1, jnp.where((k < squarings)[..., None, None], power @ power, power)

    scaled = jnp.where(finite[..., None, None], _taylor(matrix), jnp.nan)
    return lax.while_loop(lambda state: state[0] < most, square, (jnp.zeros((), real), scaled))[1]


@kernel(aten.linalg_cross.default)
def linalg_cross(self: Array, other: Array, *, dim: int = -1) -> Array:
    """Return the cross product along a dimension of size 3; slices, where torch's decomposition gathers."""
    x, y = jnp.broadcast_arrays(wide(self), wide(other))
    next_x, next_y = jnp.roll(x, -1, axis=dim), jnp.roll(y, -1, axis=dim)
    last_x, last_y = jnp.roll(x, 1, axis=dim), jnp.roll(y, 1, axis=dim)
    return next_x * last_y - last_x * next_y


@kernel(aten.linalg__powsum.default)
def linalg_powsum(
    self: Array, ord: float = 2, dim: Dims = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Array:
    """Sum |self| ** ord over dimensions: a vector norm before its root."""
    value = wide(self if dtype is None else self.astype(jax_dtype(dtype)))
    return jnp.sum(jnp.power(jnp.abs(value), ord), axis=axes(dim, self.ndim), keepdims=keepdim)
