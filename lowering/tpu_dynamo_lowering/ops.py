"""Every operator's lowering: importing this module fills the tables."""

# ruff: noqa: I001, since what follows the families reads what they entered
from . import decompositions, kernels, rewrites
from .rewrites.copies import enter_copies_of_views
from . import torch_mlir_ops
from .table import PATTERNS, TABLE

__all__ = ["PATTERNS", "TABLE", "decompositions", "kernels", "rewrites", "torch_mlir_ops"]

enter_copies_of_views()
