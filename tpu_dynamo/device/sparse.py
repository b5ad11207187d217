"""Sparse gradients on the device, as embeddings make them: pairs of dense tensors, with PyTorch's own bookkeeping.

XLA has no sparse tensors: what optimizers do with such gradients is done to their indices and values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tpu_dynamo_lowering import Sparse

from ._torch_compat import bookkeeping_of_sparse_tensors, contiguous_stride, library

aten = torch.ops.aten

# Operators of which PyTorch's kernels for the CPU touch no values.
_BOOKKEEPING = (
    "_coalesced_", "_dimI", "_dimV", "_indices", "_nnz", "_sparse_coo_tensor_with_dims",
    "_sparse_coo_tensor_with_dims_and_tensors", "_values", "clone", "copy_sparse_to_sparse_", "dense_dim",
    "empty.memory_format", "indices", "is_coalesced", "resize_as_sparse_", "sparse_dim", "sparse_resize_", "values",
)  # fmt: skip


def _rows(sparse: torch.Tensor) -> torch.Tensor:
    """Return for each entry the row that it has once the sparse dimensions are one."""
    strides = contiguous_stride(sparse.shape[: sparse.sparse_dim()])
    return sum((place * step for place, step in zip(sparse._indices(), strides, strict=True)), sparse._indices()[0] * 0)


def _as_rows(dense: torch.Tensor, sparse: torch.Tensor) -> torch.Tensor:
    return dense.reshape(math.prod(sparse.shape[: sparse.sparse_dim()]), *sparse._values().shape[1:])


def _of(like: torch.Tensor, indices: torch.Tensor, values: torch.Tensor, coalesced: bool) -> torch.Tensor:
    return torch.sparse_coo_tensor(indices, values, like.shape, is_coalesced=coalesced, check_invariants=False)


def coalesce(self: torch.Tensor) -> torch.Tensor:
    """Sum entries of equal places. Which they are is found on the CPU: only the places cross."""
    places, where = torch.unique(_rows(self).cpu(), return_inverse=True)
    values = self._values()
    total = values.new_zeros(len(places), *values.shape[1:]).index_add_(0, where.to(self.device), values)
    sizes = self.shape[: self.sparse_dim()]
    return _of(self, torch.stack(torch.unravel_index(places, sizes)).to(self.device), total, True)


def to_dense(self: torch.Tensor, dtype: torch.dtype | None = None, masked_grad: bool | None = None) -> torch.Tensor:
    """Return the dense tensor of the same values."""
    return add_(self._values().new_zeros(self.shape), self).to(dtype or self.dtype)


def add_(self: torch.Tensor, other: torch.Tensor, *, alpha: Any = 1) -> torch.Tensor:
    """Add a sparse tensor in place. Raises NotImplementedError for a dense one that is added to a sparse one."""
    if self.is_sparse:
        return aten.copy_sparse_to_sparse_.default(self, add(self, other, alpha=alpha))
    values = other._values() * alpha
    if not self.is_contiguous():
        return self.copy_(add_(self.contiguous(), other, alpha=alpha))
    _as_rows(self, other).index_add_(0, _rows(other), values.to(self.dtype))
    return self


def add(self: torch.Tensor, other: torch.Tensor, *, alpha: Any = 1) -> torch.Tensor:
    """Add a sparse tensor to a dense one, or two sparse ones, whose entries then stand one after the other."""
    if not self.is_sparse:
        return add_(self.clone(), other, alpha=alpha)
    if not other.is_sparse:
        raise NotImplementedError("a dense tensor is added to a sparse one: write dense + sparse")
    indices = torch.cat([self._indices(), other._indices()], 1)
    return _of(self, indices, torch.cat([self._values(), other._values() * alpha]), False)


def mul(self: Any, other: Any) -> torch.Tensor:
    """Multiply a sparse tensor and a number, in either order. Raises NotImplementedError for two tensors."""
    sparse, number = (self, other) if isinstance(self, torch.Tensor) and self.is_sparse else (other, self)
    if isinstance(number, torch.Tensor) and (number.ndim or number.is_sparse):
        raise NotImplementedError("sparse tensors of the device are multiplied by numbers alone: use .to_dense()")
    return _of(sparse, sparse._indices(), sparse._values() * number, sparse.is_coalesced())


def mul_out(self: Any, other: Any, *, out: torch.Tensor) -> torch.Tensor:
    """Multiply by a number into `out`, which may be an operand. Raises NotImplementedError for two tensors."""
    return aten.copy_sparse_to_sparse_.default(out, mul(self, other))


def mul_(self: torch.Tensor, other: Any) -> torch.Tensor:
    """Multiply by a number in place. Raises NotImplementedError for a tensor with dimensions."""
    return mul_out(self, other, out=self)


def sparse_mask(self: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return a sparse tensor with the places of `mask` and a dense tensor's values there."""
    return _of(mask, mask._indices(), _as_rows(self, mask)[_rows(mask)], mask.is_coalesced())


def sparse_tensor(results: Mapping[int, torch.Tensor] | Sequence[Any], sparse: Sparse) -> torch.Tensor:
    """Return the COO tensor whose terms a program gives as indices (int64, dimensions x entries) and values."""
    total: torch.Tensor | None = None
    for indices, values in ((results[i], results[v]) for i, v in sparse.terms):
        if sparse.gaps:
            entries = (indices >= 0).all(0)
            indices, values = indices[:, entries], values[entries]
        term = torch.sparse_coo_tensor(indices, values, sparse.shape, check_invariants=False)
        total = term if total is None else total + term
    assert total is not None
    return total


def register_sparse() -> list[torch.library.Library]:
    """Register the operators that embeddings, torch.optim.SGD, Adagrad and SparseAdam call with such gradients."""
    ours = library("aten", "SparsePrivateUse1")
    for name in _BOOKKEEPING:
        ours.impl(name, bookkeeping_of_sparse_tensors(name))
    kernels = {
        "_coalesce": coalesce, "_to_dense": to_dense, "add_.Tensor": add_, "add.Tensor": add, "mul.Tensor": mul,
        "mul_.Tensor": mul_, "mul.out": mul_out,
        "sparse_mask": sparse_mask,
    }  # fmt: skip
    for name, kernel in kernels.items():
        ours.impl(name, torch.compiler.disable(kernel))
    return [ours]
