"""Operators whose torch-mlir pattern is as good as the kernel and quicker to lower, verified against eager PyTorch."""

from __future__ import annotations

import torch

from .table import PATTERNS, SHAPE_PATTERNS, TABLE

aten = torch.ops.aten

# Not eq.Tensor: its folder says that x equals x, which is wrong of nan, and so of isfinite.
# Not sigmoid: XLA rounds each step of its logistic function of float16, on CPUs.
_ELEMENTWISE = (
    aten.abs.default,
    aten.add.Scalar,
    aten.add.Tensor,
    aten.bitwise_and.Tensor,
    aten.bitwise_or.Tensor,
    aten.bitwise_xor.Tensor,
    aten.ceil.default,
    aten.clone.default,
    aten.cos.default,
    aten.div.Scalar,
    aten.div.Tensor,
    aten.eq.Scalar,
    aten.exp.default,
    aten.floor.default,
    aten.ge.Scalar,
    aten.ge.Tensor,
    aten.gt.Scalar,
    aten.gt.Tensor,
    aten.le.Scalar,
    aten.le.Tensor,
    aten.log.default,
    aten.log1p.default,
    aten.logical_and.default,
    aten.logical_not.default,
    aten.logical_or.default,
    aten.logical_xor.default,
    aten.lt.Scalar,
    aten.lt.Tensor,
    aten.maximum.default,
    aten.minimum.default,
    aten.mul.Scalar,
    aten.mul.Tensor,
    aten.ne.Scalar,
    aten.ne.Tensor,
    aten.neg.default,
    aten.relu.default,
    aten.rsqrt.default,
    aten.sin.default,
    aten.sqrt.default,
    aten.sub.Scalar,
    aten.sub.Tensor,
    aten.tanh.default,
    aten.where.self,
)
_SHAPES = (
    aten.cat.default,
    aten.permute.default,
    aten.slice.Tensor,
    aten.transpose.int,
    aten.unsqueeze.default,
    aten.view.default,
)
_CONTRACTIONS = (aten.bmm.default, aten.mm.default)


PATTERNS.update(_ELEMENTWISE, _SHAPES, _CONTRACTIONS)
SHAPE_PATTERNS.update(_SHAPES)

_without = PATTERNS - TABLE.keys()
if _without:
    raise TypeError(f"torch-mlir takes only some dtypes, so a kernel must take the others: {_without}")
