"""Every operator's lowering: the tables, filled by the families."""

# ruff: noqa: I001, since the patterns are checked against the kernels
from . import decompositions, kernels, rewrites
from . import torch_mlir_ops
from .table import PATTERNS, TABLE

__all__ = ["PATTERNS", "TABLE", "decompositions", "kernels", "rewrites", "torch_mlir_ops"]
