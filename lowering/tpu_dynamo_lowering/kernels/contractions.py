"""Matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import torch
from jax import Array, lax

from .. import batched_products  # noqa: F401  which defines an operator
from ..table import foreign_kernel, kernel
from ..target import ANY, Target
from .arithmetic import is_exact
from .dtypes import checked_number, jax_dtype
from .reductions import wide
from .vector_products import multiply_vectors, suits_vectors

aten = torch.ops.aten


def _accumulator(x: Array) -> Any:
    # Products of half precision are accumulated in float32 and rounded once, as PyTorch's are.
    return jnp.float32 if x.dtype in (jnp.bfloat16, jnp.float16) else None


def _product(x: Array, y: Array) -> Array:
    return jnp.matmul(x, y, preferred_element_type=_accumulator(x))


@kernel(aten.mm.default)
def mm(self: Array, mat2: Array) -> Array:
    """Multiply two matrices: one dot_general."""
    return _product(self, mat2)


@kernel(aten.bmm.default)
def bmm(self: Array, mat2: Array) -> Array:
    """Multiply two batches of matrices: one dot_general."""
    return _product(self, mat2)


@foreign_kernel("tpu_dynamo_lowering::einsum")
def einsum(pattern: str, left: Array, right: Array, *, compiled_for: Target = ANY) -> Array:
    """Multiply two tensors by a pattern of einsum: one dot_general. Each letter is in the result or in both tensors.

    compiled_for: on a TPU few matrix rows of few columns are multiplied and added by its vector unit.
    """
    if compiled_for.platform == "tpu" and suits_vectors(pattern, left, right):
        return multiply_vectors(pattern, left, right)
    return jnp.einsum(pattern, left, right, preferred_element_type=_accumulator(left))


@kernel(aten.dot.default)
def dot(self: Array, tensor: Array) -> Array:
    """Return the dot product of two vectors."""
    return _product(self, tensor)


@kernel(aten.vdot.default)
def vdot(self: Array, other: Array) -> Array:
    """Return the dot product of the conjugate of one vector and another vector."""
    return _product(jnp.conj(self), other)


@kernel(aten.mv.default)
def mv(self: Array, vec: Array) -> Array:
    """Multiply a matrix and a vector."""
    return _product(self, vec)


def _scaled(value: Array, factor: Any) -> Array:
    return value if factor == 1 else value * checked_number(factor, value.dtype)


def _add_product(addend: Array, product: Array, beta: Any, alpha: Any) -> Array:
    # With beta = 0 the addend is not read: nan in it does not spread. No multiplication by one: in bfloat16 XLA keeps
    # it, with a cast before and after.
    if beta == 0:
        return _scaled(product, alpha)
    exact = is_exact(product)
    return _scaled(addend if exact else addend.astype(product.dtype), beta) + _scaled(product, alpha)


@kernel(aten.addmm.default)
def addmm(self: Array, mat1: Array, mat2: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    """Return beta * self + alpha * (mat1 @ mat2), rounded to half precision only after the addition."""
    return _add_product(self, _product(mat1, mat2), beta, alpha)


@kernel(aten.baddbmm.default)
def baddbmm(self: Array, batch1: Array, batch2: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    """Return beta * self + alpha * (batch1 @ batch2), rounded to half precision only after the addition."""
    return _add_product(self, _product(batch1, batch2), beta, alpha)


@kernel(aten.addbmm.default)
def addbmm(self: Array, batch1: Array, batch2: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    """Return beta * self + alpha * the sum over the batch of (batch1 @ batch2)."""
    wanted = jnp.float32 if batch1.dtype in (jnp.bfloat16, jnp.float16) else None
    total = jnp.einsum("bij,bjk->ik", batch1, batch2, preferred_element_type=wanted)
    return _add_product(self, total, beta, alpha)


@kernel(aten.addmv.default)
def addmv(self: Array, mat: Array, vec: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    """Return beta * self + alpha * (mat @ vec)."""
    return _add_product(self, _product(mat, vec), beta, alpha)


@kernel(aten.addr.default)
def addr(self: Array, vec1: Array, vec2: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    """Return beta * self + alpha * the outer product of two vectors; of booleans, with `and` and `or`."""
    product = jnp.logical_and if vec1.dtype == jnp.bool_ else jnp.multiply
    outer = product(wide(vec1)[:, None], wide(vec2)[None, :])
    if outer.dtype == jnp.bool_:
        return (outer if alpha else jnp.zeros_like(outer)) | (self if beta else jnp.zeros_like(self))
    return _add_product(self, outer, beta, alpha)


@kernel(aten.linear.default)
def linear(input: Array, weight: Array, bias: Array | None = None) -> Array:
    """Return input @ weight.T + bias, rounded to half precision only after the addition: one dot_general.

    input: [..., columns], of any number of dimensions; weight: [rows, columns] or [columns]; bias: [rows].
    """
    dims = ((input.ndim - 1,), (weight.ndim - 1,))
    product = lax.dot_general(input, weight, (dims, ((), ())), preferred_element_type=_accumulator(input))
    return product if bias is None else _add_product(bias, product, 1, 1)


@kernel(aten.tensordot.default)
def tensordot(self: Array, other: Array, dims_self: Sequence[int], dims_other: Sequence[int]) -> Array:
    """Multiply two tensors and sum over pairs of dimensions: one dot_general.

    Of a pair with sizes 1 and n the other tensor is summed first. The result has the other dimensions of `self`, then
    those of `other`.
    """
    for left, right in zip(dims_self, dims_other, strict=True):
        if self.shape[left] == 1:
            other = jnp.sum(other, axis=right, keepdims=True, dtype=other.dtype)
        elif other.shape[right] == 1:
            self = jnp.sum(self, axis=left, keepdims=True, dtype=self.dtype)
    dims = (tuple(d % self.ndim for d in dims_self), tuple(d % other.ndim for d in dims_other))
    return lax.dot_general(self, other, (dims, ((), ())), preferred_element_type=_accumulator(self))


@kernel(aten.mm.dtype)
def mm_dtype(self: Array, mat2: Array, out_dtype: torch.dtype) -> Array:
    """Multiply two half-precision matrices, with the result in `out_dtype`."""
    return jnp.matmul(self, mat2, preferred_element_type=jax_dtype(out_dtype))


@kernel(aten.bmm.dtype)
def bmm_dtype(self: Array, mat2: Array, out_dtype: torch.dtype) -> Array:
    """Multiply two batches of half-precision matrices, with the result in `out_dtype`."""
    return jnp.matmul(self, mat2, preferred_element_type=jax_dtype(out_dtype))


@kernel(aten._trilinear.default)
def trilinear(
    i1: Array,
    i2: Array,
    i3: Array,
    expand1: Sequence[int],
    expand2: Sequence[int],
    expand3: Sequence[int],
    sumdim: Sequence[int],
    unroll_dim: int = 1,
) -> Array:
    """Multiply three tensors elementwise and sum over the dimensions `sumdim`: one einsum.

    expand1, expand2, expand3: where each tensor gets dimensions of size 1 before they are broadcast together. The whole
    product is never stored. A dimension in which all three are expanded has size 0, in the result too.
    Source: `_trilinear` in aten/src/ATen/native/Linear.cpp.
    """
    rank = i1.ndim + len(expand1)
    summed = {dim % rank for dim in sumdim}
    operands: list[Any] = []
    extents = [0] * rank
    for value, expanded in ((i1, expand1), (i2, expand2), (i3, expand3)):
        own = [d for d in range(rank) if d not in {dim % rank for dim in expanded}]
        for d, extent in zip(own, value.shape, strict=True):
            extents[d] = extent if extents[d] in (0, 1) or d == unroll_dim else extents[d]
        wide = [(d, axis) for axis, d in enumerate(own) if value.shape[axis] != 1]
        operands += [jnp.squeeze(value, [a for a in range(value.ndim) if value.shape[a] == 1]), [d for d, _ in wide]]
    shape = tuple(extents[d] for d in range(rank) if d not in summed)
    # PyTorch takes this dimension's size from the last tensor that has it.
    for i in range(0, len(operands), 2):
        if unroll_dim in operands[i + 1]:
            operands[i] = operands[i].take(jnp.arange(extents[unroll_dim]), operands[i + 1].index(unroll_dim))
    if 0 in shape or extents[unroll_dim] == 0:
        return jnp.zeros(shape, i1.dtype)
    wanted = jnp.float32 if i1.dtype in (jnp.bfloat16, jnp.float16) else None
    kept = [d for d in range(rank) if d not in summed and extents[d] != 1]
    return jnp.einsum(*operands, kept, preferred_element_type=wanted).reshape(shape)
