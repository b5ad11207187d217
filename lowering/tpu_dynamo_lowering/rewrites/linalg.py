"""Determinants, whose backward formulas read the strides of the matrix, and the pseudo-inverse."""

from __future__ import annotations

import torch
from torch import Tensor

from ..table import rewrites

aten = torch.ops.aten


def _factorised_transpose(A: Tensor) -> bool:
    # ATen factorises the transpose of a row-major real matrix, which is LAPACK's column-major form of it. The backward
    # formulas in torch/csrc/autograd/FunctionsManual.cpp ask the same of A to know which one LU belongs to.
    return A.is_contiguous() and not A.is_complex()


def _lu(A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return aten.linalg_lu_factor_ex(A.mT if _factorised_transpose(A) else A)


def _determinant_parts(LU: Tensor, pivots: Tensor) -> tuple[Tensor, Tensor]:
    """Return the diagonal of U, and the sign of the permutation in U's dtype."""
    diagonal = LU.diagonal(dim1=-2, dim2=-1)
    places = torch.arange(1, pivots.shape[-1] + 1, dtype=pivots.dtype, device=pivots.device)
    odd = (pivots != places).sum(-1) % 2
    return diagonal, (1 - 2 * odd).to(LU.dtype)


@rewrites(aten._linalg_det.default)
def linalg_det(A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the determinant as the product of U's diagonal and the permutation's sign; also return LU and pivots.

    ATen's choice of A or its transpose for the factors is kept, because the backward formulas read it from A's strides.
    """
    LU, pivots, _ = _lu(A)
    diagonal, sign = _determinant_parts(LU, pivots)
    return sign * diagonal.prod(-1), LU, pivots


@rewrites(aten._linalg_slogdet.default)
def linalg_slogdet(A: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the determinant's sign and the log of its absolute value from U's diagonal; also return LU and pivots."""
    LU, pivots, _ = _lu(A)
    diagonal, sign = _determinant_parts(LU, pivots)
    return sign * diagonal.sgn().prod(-1), diagonal.abs().log().sum(-1), LU, pivots


@rewrites(aten.linalg_pinv.atol_rtol_tensor)
def linalg_pinv(
    self: Tensor, *, atol: Tensor | None = None, rtol: Tensor | None = None, hermitian: bool = False
) -> Tensor:
    """Compute the pseudo-inverse from the singular values, or eigenvalues, above max(atol, rtol * the largest).

    rtol is by default the dtype's precision times the longer side, or zero where atol is given.
    """
    if self.numel() == 0:
        return self.new_zeros(self.mT.shape)
    if hermitian:
        values, u = torch.linalg.eigh(self)
        sizes, vh = values.abs(), u.mH
    else:
        u, values, vh = torch.linalg.svd(self, full_matrices=False)
        sizes = values
    if rtol is None:
        default = torch.finfo(self.dtype).eps * max(self.shape[-2:]) if atol is None else 0.0
        rtol = torch.full((), default, dtype=sizes.dtype, device=self.device)
    threshold = rtol.unsqueeze(-1) * sizes.amax(-1, keepdim=True)
    if atol is not None:
        threshold = torch.maximum(threshold, atol.unsqueeze(-1))
    inverse = torch.where(sizes > threshold, values.reciprocal(), 0.0).to(self.dtype)
    return (vh.mH * inverse.unsqueeze(-2)) @ u.mH
