"""Grouped matrix products: rows sorted by group, each group with a matrix of its own (mixtures of experts)."""

from __future__ import annotations

import jax.numpy as jnp
import torch
from jax import Array, lax

from .. import grouped_products  # noqa: F401  which defines an operator
from ..table import foreign_kernel, kernel
from ..target import ANY, Target
from .grouped_tiles import groups_by_kernel, rows_by_kernel, suits_kernel

aten = torch.ops.aten


def _sizes(ends: Array) -> Array:
    """Return the number of rows of each group from the groups' ends, int32."""
    return jnp.diff(ends, prepend=jnp.zeros((1,), ends.dtype)).astype(jnp.int32)


def _accumulator(value: Array) -> jnp.dtype | None:
    return jnp.float32 if value.dtype in (jnp.bfloat16, jnp.float16) else None


def _by_rows(rows: Array, matrices: Array, ends: Array, target: Target, transposed: bool = False) -> Array:
    """Multiply rows [S, K] by the matrices [G, K, N] of their groups; rows past the last group give zero.

    transposed: matrices are [G, N, K]. On a TPU XLA multiplies all rows by all matrices, a kernel by their own.
    """
    if target.platform == "tpu" and suits_kernel(rows, matrices):
        precision = target.kernel_precision(rows.dtype)
        return rows_by_kernel(rows, matrices, _sizes(ends), transposed, precision, interpret=False)
    matrices = matrices.swapaxes(1, 2) if transposed else matrices
    return lax.ragged_dot(rows, matrices, _sizes(ends), preferred_element_type=_accumulator(rows))


def _by_groups(left: Array, right: Array, ends: Array, target: Target) -> Array:
    """Multiply [S, K] and [S, N] to [G, K, N]: for each group the product over its own rows."""
    if target.platform == "tpu" and suits_kernel(left, right):
        return groups_by_kernel(left, right, _sizes(ends), target.kernel_precision(left.dtype), interpret=False)
    numbers = lax.RaggedDotDimensionNumbers(
        dot_dimension_numbers=(((0,), (0,)), ((), ())), lhs_ragged_dimensions=[0], rhs_group_dimensions=[]
    )
    return lax.ragged_dot_general(left, right, _sizes(ends), numbers, preferred_element_type=_accumulator(left))


@foreign_kernel("tpu_dynamo::grouped_mm")
@kernel(aten._grouped_mm.default)
def grouped_mm(
    self: Array,
    mat2: Array,
    offs: Array | None = None,
    bias: Array | None = None,
    out_dtype: torch.dtype | None = None,
    *,
    compiled_for: Target = ANY,
) -> Array:
    """Multiply matrices by group; `offs` holds the ends of the groups' rows, or of their parts of the shared dimension.

    self, mat2: [S, K] and [G, K, N]; or [G, M, K] and [K, S], grouped by columns; or [M, S] and [S, N], grouped by the
    shared dimension, to [G, M, N]; or two batches without `offs`. Half precision is accumulated in float32.
    Source: ATen `_grouped_mm`.
    """
    if offs is None:
        product = jnp.matmul(self, mat2, preferred_element_type=_accumulator(self))
    elif self.ndim == 2 and mat2.ndim == 3:
        product = _by_rows(self, mat2, offs, compiled_for)
    elif self.ndim == 3 and mat2.ndim == 2:
        product = _by_rows(mat2.T, self, offs, compiled_for, transposed=True).T
    else:
        product = _by_groups(self.T, mat2, offs, compiled_for)
    return product if bias is None else product + bias


@foreign_kernel("tpu_dynamo_lowering::multiply_rows")
def multiply_rows(rows: Array, matrices: Array, ends: Array, *, compiled_for: Target = ANY) -> Array:
    """Multiply rows [S, K] by the transposes of the matrices [G, N, K] of their groups, as `grouped_mm` does."""
    return _by_rows(rows, matrices, ends, compiled_for, transposed=True)


@foreign_kernel("transformers::grouped_mm_fallback")
def transformers_grouped_mm(input: Array, weight: Array, offs: Array, *, compiled_for: Target = ANY) -> Array:
    """Multiply each expert's rows by its matrix: one ragged product, where transformers loops on the host.

    input: [S, K]; weight: [G, K, N]; offs: [G], the groups' ends. Source: transformers/integrations/moe.py.
    """
    return _by_rows(input, weight, offs, compiled_for)


@foreign_kernel("transformers::grouped_mm_fallback_backward")
def transformers_grouped_mm_backward(
    input: Array, weight: Array, offs: Array, grad_output: Array, *, compiled_for: Target = ANY
) -> tuple[Array, Array]:
    """Compute the gradients of the rows and of the experts' matrices."""
    grad_input = _by_rows(grad_output, weight, offs, compiled_for, transposed=True)
    return grad_input, _by_groups(input, grad_output, offs, compiled_for)
