"""Factorisations of matrices: Cholesky, LU, QR and Householder, SVD, eigenvalues."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import torch
from jax import Array, lax
from jax.lax import linalg

from .._torch_compat import overload_if_defined
from ..table import kernel

aten = torch.ops.aten


def adjoint(matrix: Array) -> Array:
    """Return the conjugate transpose over the last two dimensions."""
    return jnp.conj(jnp.swapaxes(matrix, -1, -2))


def _nan_unless_finite(decompose: Callable[[Array], tuple[Array, ...]], matrix: Array) -> tuple[Array, ...]:
    """Decompose each matrix, or fill its results with nan if the matrix holds nan or infinities.

    Eager raises there. The iterations never see such a matrix: on a TPU those of eigenvalues divide the spectrum until
    the parts are small, which nan never is.
    """
    finite = jnp.all(jnp.isfinite(matrix), axis=(-2, -1), keepdims=True)
    found = decompose(jnp.where(finite, matrix, 0))
    return tuple(jnp.where(finite if value.ndim == matrix.ndim else finite[..., 0], value, jnp.nan) for value in found)


def _empty_vector(like: Array) -> Array:
    """Return an empty vector, PyTorch's result for a factor that was not asked for."""
    return jnp.zeros((0,), like.dtype)


def _failing_minor(matrix: Array) -> Array:
    """Return the order of the first leading minor that is not positive definite, int32; 0 if all are."""
    n = matrix.shape[-1]

    def eliminate(k: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        rest, info = state
        column = lax.dynamic_index_in_dim(rest, k, axis=-1, keepdims=False)
        pivot = lax.dynamic_index_in_dim(column, k, axis=-1, keepdims=False).real
        info = jnp.where((info == 0) & ~(pivot > 0), k + 1, info)
        scaled = column / pivot[..., None].astype(column.dtype)
        return rest - scaled[..., :, None] * jnp.conj(column)[..., None, :], info

    start = matrix, jnp.zeros(matrix.shape[:-2], jnp.int32)
    return lax.fori_loop(jnp.int32(0), jnp.int32(n), eliminate, start)[1]


def _cholesky(matrix: Array, upper: bool) -> tuple[Array, Array]:
    triangle = jnp.triu(matrix) if upper else jnp.tril(matrix)
    if matrix.size == 0:
        return triangle, triangle
    lower = adjoint(triangle) if upper else triangle
    factor = jnp.tril(linalg.cholesky(lower, symmetrize_input=False))
    return (adjoint(factor) if upper else factor), lower


@kernel(aten.linalg_cholesky_ex.default)
def linalg_cholesky_ex(self: Array, *, upper: bool = False, check_errors: bool = False) -> tuple[Array, Array]:
    """Compute the Cholesky factor from one triangle, and the order of the first leading minor that is not positive.

    self: [..., n, n]. Results: [..., n, n], and `info`, int32 [...], 0 for a positive definite matrix; for others the
    factor holds nan. A program cannot raise, whatever `check_errors` asks. The order is searched for only when a factor
    has nan. Source: ATen `linalg_cholesky_ex`.
    """
    factor, lower = _cholesky(self, upper)
    none = jnp.zeros(self.shape[:-2], jnp.int32)
    if self.size == 0:
        return factor, none
    failed = jnp.any(jnp.isnan(factor))
    below = jnp.tril(lower, -1)
    whole = below + adjoint(below) + jnp.eye(lower.shape[-1], dtype=lower.dtype) * lower.real.astype(lower.dtype)
    return factor, lax.cond(failed, _failing_minor, lambda _: none, whole)


@kernel(*overload_if_defined("aten::cholesky.default"))  # torch 2.14 has it no more
def cholesky(self: Array, upper: bool = False) -> Array:
    """Compute the Cholesky factor from one triangle; nan where the matrix is not positive definite."""
    return _cholesky(self, upper)[0]


def _eliminated(matrix: Array) -> Array:
    """Compute the LU factors without pivoting, in one matrix, column after column."""
    rows, columns = matrix.shape[-2:]
    row, column = jnp.arange(rows, dtype=jnp.int32), jnp.arange(columns, dtype=jnp.int32)

    def eliminate(k: Array, rest: Array) -> Array:
        pivot_row = lax.dynamic_index_in_dim(rest, k, axis=-2, keepdims=True)
        pivot_column = lax.dynamic_index_in_dim(rest, k, axis=-1, keepdims=True)
        pivot = lax.dynamic_index_in_dim(pivot_row, k, axis=-1, keepdims=True)
        factors = jnp.where((row > k)[:, None], pivot_column / pivot, 0)
        reduced = rest - factors * jnp.where(column > k, pivot_row, 0)
        return jnp.where((row > k)[:, None] & (column == k), factors, reduced)

    return lax.fori_loop(jnp.int32(0), jnp.int32(min(rows, columns)), eliminate, matrix)


def factorise_lu(matrix: Array, pivot: bool = True) -> tuple[Array, Array, Array]:
    """Compute LU factors in one matrix, LAPACK's pivots (int32, counted from 1) and the permutation that they mean."""
    rank = min(matrix.shape[-2:])
    batch = matrix.shape[:-2]
    if not pivot or matrix.size == 0:
        pivots = jnp.broadcast_to(jnp.arange(1, rank + 1, dtype=jnp.int32), (*batch, rank))
        order = jnp.broadcast_to(jnp.arange(matrix.shape[-2], dtype=jnp.int32), (*batch, matrix.shape[-2]))
        return (_eliminated(matrix) if matrix.size else matrix), pivots, order
    factors, pivots, order = linalg.lu(matrix)
    return factors, pivots + 1, order


def first_zero_pivot(factors: Array) -> Array:
    """Return the place, counted from 1, of the first zero on U's diagonal, int32; 0 if there is none."""
    zero = jnp.diagonal(factors, axis1=-2, axis2=-1) == 0
    if zero.shape[-1] == 0:
        return jnp.zeros(zero.shape[:-1], jnp.int32)
    return jnp.where(jnp.any(zero, -1), jnp.argmax(zero, -1) + 1, 0).astype(jnp.int32)


@kernel(aten.linalg_lu_factor_ex.default)
def linalg_lu_factor_ex(A: Array, *, pivot: bool = True, check_errors: bool = False) -> tuple[Array, Array, Array]:
    """Compute LU factors in one matrix, LAPACK's pivots and the place of U's first zero pivot.

    A: [..., m, n]. Results: [..., m, n]; int32 [..., min(m, n)], counted from 1; int32 [...], counted from 1, 0 for
    none. A program cannot raise, whatever `check_errors` asks. Source: ATen `linalg_lu_factor_ex`.
    """
    factors, pivots, _ = factorise_lu(A, pivot)
    return factors, pivots, first_zero_pivot(factors)


def _triangles(factors: Array) -> tuple[Array, Array]:
    rows, columns = factors.shape[-2:]
    rank = min(rows, columns)
    lower = jnp.tril(factors[..., :rank], -1) + jnp.eye(rows, rank, dtype=factors.dtype)
    return lower, jnp.triu(factors[..., :rank, :])


def _permutation_matrix(order: Array, like: Array) -> Array:
    n = order.shape[-1]
    return (order[..., None, :] == jnp.arange(n, dtype=order.dtype)[:, None]).astype(like.dtype)


@kernel(aten.linalg_lu.default)
def linalg_lu(A: Array, *, pivot: bool = True) -> tuple[Array, Array, Array]:
    """Compute P, L and U with A = P L U; without pivoting P is an empty vector."""
    factors, _, order = factorise_lu(A, pivot)
    return _permutation_matrix(order, A) if pivot else _empty_vector(A), *_triangles(factors)


@kernel(aten.lu_unpack.default)
def lu_unpack(
    LU_data: Array, LU_pivots: Array, unpack_data: bool = True, unpack_pivots: bool = True
) -> tuple[Array, Array, Array]:
    """Return P, L and U from LU factors in one matrix and LAPACK's pivots; those not asked for are empty vectors."""
    permutation = lower = upper = _empty_vector(LU_data)
    if unpack_pivots:
        permutation = _permutation_matrix(order_of(LU_pivots, LU_data.shape[-2]), LU_data)
    if unpack_data:
        lower, upper = _triangles(LU_data)
    return permutation, lower, upper


def order_of(pivots: Array, rows: int) -> Array:
    """Return the permutation of `rows` rows that LAPACK's pivots, counted from 1, mean."""
    if pivots.size == 0:
        return jnp.broadcast_to(jnp.arange(rows, dtype=jnp.int32), (*pivots.shape[:-1], rows))
    return linalg.lu_pivots_to_permutation(pivots - 1, rows)


@kernel(aten.linalg_qr.default)
def linalg_qr(A: Array, mode: str = "reduced") -> tuple[Array, Array]:
    """Compute Householder's Q and R with LAPACK's signs; for mode "r" Q is an empty vector.

    A: [..., m, n]. mode: "reduced" for Q [..., m, min(m, n)], "complete" for Q [..., m, m], or "r".
    """
    if mode == "r":
        return _empty_vector(A), jnp.linalg.qr(A, mode="r")
    return tuple(jnp.linalg.qr(A, mode=mode))


@kernel(aten.geqrf.default)
def geqrf(self: Array) -> tuple[Array, Array]:
    """Compute R with Householder's vectors below it, and their factors tau, as LAPACK's geqrf does."""
    transposed, tau = jnp.linalg.qr(self, mode="raw")
    return jnp.swapaxes(transposed, -1, -2), tau


@kernel(aten.linalg_householder_product.default)
def linalg_householder_product(input: Array, tau: Array) -> Array:
    """Return the first columns of the product of Householder reflections whose vectors stand below the diagonal."""
    return linalg.householder_product(input, tau) if input.size else input


@kernel(aten.ormqr.default)
def ormqr(self: Array, input2: Array, input3: Array, left: bool = True, transpose: bool = False) -> Array:
    """Multiply `input3` by the whole orthogonal matrix of Householder's vectors `self` with factors `input2`.

    left: multiply from the left; transpose: by the conjugate transpose.
    """
    rows, columns = self.shape[-2:]
    if input3.size == 0:
        return input3
    square = jnp.pad(self, [(0, 0)] * (self.ndim - 1) + [(0, max(rows - columns, 0))])[..., :rows]
    q = linalg.householder_product(square, input2)
    q = adjoint(q) if transpose else q
    return jnp.matmul(q, input3) if left else jnp.matmul(input3, q)


@kernel(aten._linalg_svd.default)
def linalg_svd(
    A: Array, full_matrices: bool = False, compute_uv: bool = True, *, driver: str | None = None
) -> tuple[Array, Array, Array]:
    """Compute U, the singular values in descending order and V's adjoint; without `compute_uv` U and Vh are empty.

    `driver` names routines of cuSOLVER and is ignored. A matrix with nan or infinities, an error in eager PyTorch,
    gives nan. Source: ATen `_linalg_svd`.
    """
    if not compute_uv:
        values = _nan_unless_finite(lambda a: (jnp.linalg.svd(a, compute_uv=False),), A)
        return _empty_vector(A), values[0], _empty_vector(A)
    u, values, vh = _nan_unless_finite(lambda a: tuple(jnp.linalg.svd(a, full_matrices=full_matrices)), A)
    return u, values, vh


@kernel(*overload_if_defined("aten::linalg_polar.default"))  # since torch 2.14
def linalg_polar(A: Array) -> tuple[Array, Array]:
    """Compute the factors of A = U H: U's columns are orthonormal, H is Hermitian and positive semidefinite.

    By a singular value decomposition. A matrix with nan or infinities, an error in eager PyTorch, gives nan.
    Source: ATen `linalg_polar`.
    """
    u, values, vh = linalg_svd(A)
    v = adjoint(vh)
    half = v * values[..., None, :]
    product = jnp.matmul(half, vh)
    return jnp.matmul(u, vh), (product + adjoint(product)) / 2


@kernel(aten._linalg_eigh.default)
def linalg_eigh(A: Array, UPLO: str = "L", compute_v: bool = True) -> tuple[Array, Array]:
    """Compute the ascending eigenvalues and the eigenvectors of a Hermitian matrix from its triangle `UPLO`.

    A matrix with nan or infinities, an error in eager PyTorch, gives nan.
    """
    if A.size == 0:
        return jnp.zeros(A.shape[:-1], A.real.dtype), A if compute_v else _empty_vector(A)
    lower = UPLO.upper() == "L"
    triangle = jnp.tril(A) if lower else jnp.triu(A)
    vectors, values = _nan_unless_finite(lambda a: tuple(linalg.eigh(a, lower=lower, symmetrize_input=False)), triangle)
    return values, vectors if compute_v else _empty_vector(A)


@kernel(*overload_if_defined("aten::linalg_matrix_sqrth.default"))  # since torch 2.14
def linalg_matrix_sqrth(self: Array) -> Array:
    """Compute the principal square root of a Hermitian matrix from its lower triangle.

    Negative eigenvalues count as zero. A matrix with nan or infinities gives nan. Source: ATen `linalg_matrix_sqrth`.
    """
    values, vectors = linalg_eigh(self)
    roots = jnp.sqrt(jnp.maximum(values, 0))
    return jnp.matmul(vectors * roots[..., None, :], adjoint(vectors))


def _eig(matrix: Array, vectors: bool) -> tuple[Array, ...]:
    """Compute eigenvalues, and right eigenvectors if wanted, of a matrix scaled to size one by a power of two.

    LAPACK scales the largest and smallest matrices by itself, but the version that XLA calls forgets to undo it.
    """
    exponent = jnp.frexp(jnp.max(jnp.abs(matrix), axis=(-2, -1), keepdims=True))[1]

    def scaled(values: Array, exponent: Array) -> Array:
        for step in (exponent // 2, exponent - exponent // 2):  # the whole power may be subnormal or infinite
            values = values * jnp.ldexp(jnp.ones((), values.real.dtype), step)
        return values

    unit = scaled(matrix, -exponent)
    values, *found = linalg.eig(unit, compute_left_eigenvectors=False, compute_right_eigenvectors=vectors)
    return scaled(values, exponent[..., 0]), *found


@kernel(aten.linalg_eig.default)
def linalg_eig(self: Array) -> tuple[Array, Array]:
    """Compute the complex eigenvalues and eigenvectors of a general matrix; XLA has it for CPUs and GPUs, not for TPUs.

    A matrix with nan or infinities, an error in eager PyTorch, gives nan.
    """
    wanted = jnp.result_type(self.dtype, jnp.complex64)
    if self.size == 0:
        return jnp.zeros(self.shape[:-1], wanted), jnp.zeros(self.shape, wanted)
    values, vectors = _nan_unless_finite(lambda a: _eig(a, vectors=True), self)
    return values, vectors


@kernel(aten._linalg_eigvals.default)
def linalg_eigvals(self: Array) -> Array:
    """Compute the complex eigenvalues of a general matrix; XLA has it for CPUs and GPUs, not for TPUs.

    A matrix with nan or infinities, an error in eager PyTorch, gives nan.
    """
    if self.size == 0:
        return jnp.zeros(self.shape[:-1], jnp.result_type(self.dtype, jnp.complex64))
    return _nan_unless_finite(lambda a: _eig(a, vectors=False), self)[0]
