"""Solving linear systems: by triangles, by LU and Cholesky factors, by inverses."""

from __future__ import annotations

import jax.numpy as jnp
import torch
from jax import Array
from jax.lax import linalg

from ..table import kernel
from .linalg import adjoint as adjoint_of
from .linalg import factorise_lu, first_zero_pivot, order_of

aten = torch.ops.aten


def _broadcast_batches(x: Array, y: Array) -> tuple[Array, Array]:
    """Broadcast the batch dimensions of two batches of matrices."""
    batch = jnp.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    return jnp.broadcast_to(x, (*batch, *x.shape[-2:])), jnp.broadcast_to(y, (*batch, *y.shape[-2:]))


def _solve_triangular(
    matrix: Array, right: Array, *, upper: bool, left: bool = True, unit: bool = False, adjoined: bool = False
) -> Array:
    matrix, right = _broadcast_batches(matrix, right)
    if right.size == 0:
        return right
    return linalg.triangular_solve(
        matrix, right, left_side=left, lower=not upper, unit_diagonal=unit, transpose_a=adjoined, conjugate_a=adjoined
    )


@kernel(aten.linalg_solve_triangular.default)
def linalg_solve_triangular(
    self: Array, B: Array, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Array:
    """Solve A X = B, or X A = B unless `left`, for X with a triangular A, which is `self`."""
    return _solve_triangular(self, B, upper=upper, left=left, unit=unitriangular)


@kernel(aten.triangular_solve.default)
def triangular_solve(
    self: Array, A: Array, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> tuple[Array, Array]:
    """Solve A X = self, or A^T X = self with `transpose`, for X with a triangular A; also return A, broadcast."""
    matrix, right = _broadcast_batches(A, self)
    if right.size == 0:
        return right, matrix
    solution = linalg.triangular_solve(
        matrix, right, left_side=True, lower=not upper, transpose_a=transpose, unit_diagonal=unitriangular
    )
    return solution, matrix


def _solve_cholesky(factor: Array, right: Array, upper: bool) -> Array:
    half = _solve_triangular(factor, right, upper=upper, adjoined=upper)
    return _solve_triangular(factor, half, upper=upper, adjoined=not upper)


@kernel(aten.cholesky_solve.default)
def cholesky_solve(self: Array, input2: Array, upper: bool = False) -> Array:
    """Solve A X = self for X, with the Cholesky factor `input2` of A."""
    return _solve_cholesky(input2, self, upper)


@kernel(aten._cholesky_solve_helper.default)
def cholesky_solve_helper(self: Array, A: Array, upper: bool) -> Array:
    """Solve A' X = self for X, with `A` the Cholesky factor of A'."""
    return _solve_cholesky(A, self, upper)


@kernel(aten.cholesky_inverse.default)
def cholesky_inverse(self: Array, upper: bool = False) -> Array:
    """Invert the matrix whose Cholesky factor is `self`."""
    return _solve_cholesky(self, jnp.broadcast_to(jnp.eye(self.shape[-1], dtype=self.dtype), self.shape), upper)


def _permuted(rows: Array, order: Array) -> Array:
    return jnp.take_along_axis(rows, jnp.broadcast_to(order, rows.shape[:-1])[..., None], axis=-2)


def _solve_lu(factors: Array, order: Array, right: Array, adjoined: bool) -> Array:
    factors, right = _broadcast_batches(factors, right)
    if right.size == 0:
        return right
    order = jnp.broadcast_to(order, right.shape[:-1])
    if not adjoined:
        half = _solve_triangular(factors, _permuted(right, order), upper=False, unit=True)
        return _solve_triangular(factors, half, upper=True)
    half = _solve_triangular(factors, right, upper=True, adjoined=True)
    solution = _solve_triangular(factors, half, upper=False, unit=True, adjoined=True)
    return _permuted(solution, jnp.argsort(order, axis=-1))


def _solve_lu_from_right(factors: Array, order: Array, right: Array, adjoined: bool) -> Array:
    return adjoint_of(_solve_lu(factors, order, adjoint_of(right), not adjoined))


@kernel(aten.linalg_lu_solve.default)
def linalg_lu_solve(LU: Array, pivots: Array, B: Array, *, left: bool = True, adjoint: bool = False) -> Array:
    """Solve A X = B, or X A = B unless `left`, for X from A's LU factors; with `adjoint` for A's adjoint."""
    solve = _solve_lu if left else _solve_lu_from_right
    return solve(LU, order_of(pivots, LU.shape[-1]), B, adjoint)


@kernel(aten._linalg_solve_ex.default)
def linalg_solve_ex(
    A: Array, B: Array, *, left: bool = True, check_errors: bool = False
) -> tuple[Array, Array, Array, Array]:
    """Solve A X = B, or X A = B unless `left`; also return A's LU factors, pivots and U's first zero pivot.

    B is a batch of vectors where its shape is A's without the last dimension. The zero pivot's place is counted from 1,
    0 for none. A program cannot raise: a singular matrix gives inf or nan. Source: ATen `_linalg_solve_ex`.
    """
    is_vector = B.ndim == 1 or (A.ndim - 1 == B.ndim and A.shape[:-1] == B.shape)
    right = B[..., None] if is_vector else B
    factors, pivots, order = factorise_lu(A)
    solution = _solve_lu(factors, order, right, False) if left else _solve_lu_from_right(factors, order, right, False)
    return solution[..., 0] if is_vector else solution, factors, pivots, first_zero_pivot(factors)


@kernel(aten.linalg_inv_ex.default)
def linalg_inv_ex(A: Array, *, check_errors: bool = False) -> tuple[Array, Array]:
    """Invert each matrix; also return the place of U's first zero pivot, counted from 1, 0 for none.

    A program cannot raise: a singular matrix gives inf or nan.
    """
    factors, _, order = factorise_lu(A)
    one = jnp.broadcast_to(jnp.eye(A.shape[-1], dtype=A.dtype), A.shape)
    return _solve_lu(factors, order, one, False), first_zero_pivot(factors)
