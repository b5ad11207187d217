"""L D L factorisation of symmetric and Hermitian matrices with Bunch and Kaufman's pivoting, and its solves.

Source: LAPACK's sytf2, hetf2 and sytrs for the lower triangle, whose compact form and pivots ATen returns. A pivot
above zero says which row a 1x1 block was exchanged with, counted from 1; two equal ones below zero say it, negated,
for the second row of a 2x2 block.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel

aten = torch.ops.aten

# The growth bound that decides between blocks.
_ALPHA = (1 + math.sqrt(17)) / 8


def _conjugated(x: Array, hermitian: bool) -> Array:
    return jnp.conj(x) if hermitian else x


def _exchanged(n: int, first: Array, second: Array) -> Array:
    """Return the order of n rows of which two have been exchanged."""
    place = jnp.arange(n, dtype=jnp.int32)
    return jnp.where(place == first, second, jnp.where(place == second, first, place))


def _choose_pivot(rest: Array, k: Array) -> tuple[Array, Array]:
    """Return the row to exchange with, and True for a 2x2 block, in the symmetric rest from row and column k on."""
    n = rest.shape[0]
    place = jnp.arange(n, dtype=jnp.int32)
    # LAPACK measures complex numbers by the sum of their parts' sizes.
    size = jnp.abs(rest.real) + jnp.abs(rest.imag) if jnp.iscomplexobj(rest) else jnp.abs(rest)
    here = size[k, k]
    column = jnp.where(place > k, size[:, k], 0)
    far = jnp.argmax(column).astype(jnp.int32)
    largest = column[far]
    row = jnp.max(jnp.where((place >= k) & (place != far), size[far], 0))
    keep = (here >= _ALPHA * largest) | (here >= _ALPHA * largest * (largest / row)) | (largest == 0)
    single = keep | (size[far, far] >= _ALPHA * row)
    return jnp.where(keep, k, far), ~single


def _block(matrix: Array, k: Array, double: Array, hermitian: bool) -> tuple[Array, Array, Array]:
    """Invert the diagonal block at k; return the two diagonal entries and the one below, zeros beyond a 1x1 block."""
    following = jnp.minimum(k + 1, matrix.shape[0] - 1)
    first, second = matrix[k, k], matrix[following, following]
    if hermitian:
        first, second = (jnp.real(d).astype(matrix.dtype) for d in (first, second))
    below = matrix[following, k]
    determinant = first * second - below * _conjugated(below, hermitian)
    none = jnp.zeros((), matrix.dtype)
    return (
        jnp.where(double, second / determinant, 1 / first),
        jnp.where(double, -below / determinant, none),
        jnp.where(double, first / determinant, none),
    )


def _factorise(matrix: Array, hermitian: bool) -> tuple[Array, Array, Array]:
    n = matrix.shape[0]
    place = jnp.arange(n, dtype=jnp.int32)
    lower = jnp.tril(matrix, -1)
    diagonal = jnp.diagonal(matrix)
    diagonal = jnp.real(diagonal).astype(matrix.dtype) if hermitian else diagonal
    whole = lower + _conjugated(lower.T, hermitian) + jnp.diag(diagonal)

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        k, rest, pivots, info = state
        other, double = _choose_pivot(rest, k)
        last = k + double.astype(jnp.int32)
        order = _exchanged(n, last, other)
        inside = (place[:, None] >= k) & (place >= k)
        rest = jnp.where(inside, rest[order][:, order], rest)
        singular = ~double & (rest[k, k] == 0)
        columns = jnp.where((place > last)[:, None], rest[:, jnp.stack((k, jnp.minimum(k + 1, n - 1)))], 0)
        first, below, second = _block(rest, k, double, hermitian)
        inverse = jnp.stack((jnp.stack((first, _conjugated(below, hermitian))), jnp.stack((below, second))))
        factors = jnp.where(singular, columns, jnp.matmul(columns, inverse))
        update = jnp.where(singular, 0, jnp.matmul(factors, _conjugated(columns.T, hermitian)))
        rest = rest - update
        under = (place > last)[:, None]
        rest = jnp.where(under & (place == k), factors[:, :1], rest)
        rest = jnp.where(under & double & (place == last), factors[:, 1:], rest)
        pivot = jnp.where(double, -(other + 1), other + 1)
        pivots = jnp.where((place == k) | (place == last), pivot, pivots)
        return last + 1, rest, pivots, jnp.where(singular & (info == 0), k + 1, info)

    zero = jnp.zeros((), jnp.int32)
    start = zero, whole, jnp.zeros((n,), jnp.int32), zero
    _, factors, pivots, info = lax.while_loop(lambda state: state[0] < n, step, start)
    return jnp.tril(factors), pivots, info


@kernel(aten.linalg_ldl_factor_ex.default)
def linalg_ldl_factor_ex(
    self: Array, *, hermitian: bool = False, check_errors: bool = False
) -> tuple[Array, Array, Array]:
    """Factor A = L D L^T (L D L^H if hermitian) from its lower triangle, with Bunch and Kaufman's pivoting.

    self: [..., n, n]. Results: L and D in one matrix, LAPACK's pivots, int32 [..., n], and `info`, int32 [...]: the
    place, from 1, of the first zero on D's diagonal, else 0. A program cannot raise, whatever `check_errors` asks.
    Source: ATen `linalg_ldl_factor_ex`; LAPACK's sytf2 and hetf2.
    """
    batch = self.shape[:-2]
    if self.size == 0:
        return self, jnp.zeros(self.shape[:-1], jnp.int32), jnp.zeros(batch, jnp.int32)
    flat = self.reshape(-1, *self.shape[-2:])
    found = jax.vmap(lambda matrix: _factorise(matrix, hermitian))(flat)
    factors, pivots, info = (value.reshape(*batch, *value.shape[1:]) for value in found)
    return factors, pivots, info


def _solve(factors: Array, pivots: Array, right: Array, hermitian: bool) -> Array:
    n = factors.shape[0]
    place = jnp.arange(n, dtype=jnp.int32)

    def forward(state: tuple[Array, Array]) -> tuple[Array, Array]:
        k, rows = state
        double = pivots[k] < 0
        last = k + double.astype(jnp.int32)
        rows = rows[_exchanged(n, last, jnp.abs(pivots[k]) - 1)]
        under = (place > last)[:, None]
        rows = rows - jnp.where(under, factors[:, k][:, None] * rows[k], 0)
        rows = rows - jnp.where(under & double, factors[:, last][:, None] * rows[last], 0)
        first, below, second = _block(factors, k, double, hermitian)
        upper_row = first * rows[k] + _conjugated(below, hermitian) * rows[last]
        lower_row = below * rows[k] + second * rows[last]
        rows = rows.at[k].set(upper_row)
        return last + 1, jnp.where(double & (place == last)[:, None], lower_row, rows)

    def backward(state: tuple[Array, Array]) -> tuple[Array, Array]:
        k, rows = state
        double = pivots[k] < 0
        first = k - double.astype(jnp.int32)
        known = jnp.where((place > k)[:, None], rows, 0)
        change = jnp.matmul(_conjugated(factors[:, jnp.stack((first, k))].T, hermitian), known)
        rows = rows.at[k].add(-change[1])
        rows = jnp.where(double & (place == first)[:, None], rows - change[0], rows)
        return first - 1, rows[_exchanged(n, k, jnp.abs(pivots[k]) - 1)]

    zero = jnp.zeros((), jnp.int32)
    _, halfway = lax.while_loop(lambda state: state[0] < n, forward, (zero, right))
    return lax.while_loop(lambda state: state[0] >= 0, backward, (zero + n - 1, halfway))[1]


@kernel(aten.linalg_ldl_solve.default)
def linalg_ldl_solve(LD: Array, pivots: Array, B: Array, *, hermitian: bool = False) -> Array:
    """Solve A X = B for X, from A's L D L factors and pivots; batches are broadcast."""
    batch = jnp.broadcast_shapes(LD.shape[:-2], B.shape[:-2])
    if B.size == 0 or LD.size == 0:
        return jnp.zeros((*batch, *B.shape[-2:]), B.dtype)
    factors, right = (jnp.broadcast_to(x, (*batch, *x.shape[-2:])).reshape(-1, *x.shape[-2:]) for x in (LD, B))
    places = jnp.broadcast_to(pivots, (*batch, pivots.shape[-1])).reshape(-1, pivots.shape[-1])
    solution = jax.vmap(lambda ld, p, b: _solve(ld, p, b, hermitian))(factors, places, right)
    return solution.reshape(*batch, *B.shape[-2:])
