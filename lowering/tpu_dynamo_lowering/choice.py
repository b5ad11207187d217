"""The choice of one call's lowering among the tables' entries."""

from __future__ import annotations

import math

import torch
from torch.fx import Node

from . import outside
from ._torch_compat import HigherOrderOperator, OpOverload
from .errors import tensors_of
from .table import FOREIGN, HIGHER_ORDER, PATTERN_DTYPES, PATTERNS, SHAPE_PATTERNS, TABLE, How, Lowering
from .writing_operators.calls import lowering_on_copies

# Dtypes of results for which torch-mlir's pattern is right only where all operands have one dtype.
_NEED_ONE_DTYPE = frozenset((torch.bool, torch.float16, torch.bfloat16))


def choose(node: Node) -> Lowering | How | None:
    """Return how one call is lowered: How.TORCH_MLIR, or its operator's entry; None if there is no entry."""
    if isinstance(node.target, HigherOrderOperator):
        return HIGHER_ORDER.get(node.target) or lowering_on_copies(node)
    if not isinstance(node.target, OpOverload):
        return None
    if node.target in PATTERNS and _suits_pattern(node):
        return How.TORCH_MLIR
    return TABLE.get(node.target) or outside.find(node.target) or FOREIGN.get(node.target._schema.name)


def _suits_pattern(node: Node) -> bool:
    """Tell whether torch-mlir's pattern gives eager's result for the dtypes, shapes and numbers of a call."""
    # Numbers that a dtype cannot hold wrap around, which the kernels know.
    if node.target not in SHAPE_PATTERNS and not _numbers_fit(node):
        return False
    # Tensors without elements or dimensions are where the shape patterns fail: cat of an empty vector, transpose of a
    # scalar.
    inputs = [value for each in node.all_input_nodes for value in tensors_of(each)]
    values = (*inputs, *tensors_of(node))
    # Of several dtypes torch-mlir compares in the widest, where eager casts a 0-d tensor to the dtype of the other; and
    # it rounds operands to half precision first.
    result, dtypes = values[-1].dtype, {value.dtype for value in inputs}
    mixed = dtypes if result == torch.bool else {dtype for dtype in dtypes if dtype.is_floating_point}
    if node.target not in SHAPE_PATTERNS and len(mixed) > 1 and result in _NEED_ONE_DTYPE:
        return False
    return all(value.dtype in PATTERN_DTYPES and value.numel() for value in values) and (
        node.target not in SHAPE_PATTERNS or all(value.ndim for value in inputs)
    )


def _numbers_fit(node: Node) -> bool:
    """Tell whether a call's numbers fit into the dtypes of the tensors that they meet, and integers into 64 bits."""
    numbers = [n for n in (*node.args, *node.kwargs.values()) if isinstance(n, int | float)]
    dtypes = {value.dtype for each in node.all_input_nodes for value in tensors_of(each)}
    if torch.bool in dtypes and any(type(n) is not bool for n in numbers):
        return False
    whole = {d for d in dtypes if not d.is_floating_point and not d.is_complex and d != torch.bool} | {torch.int64}
    bounds = [torch.iinfo(d) for d in whole]
    if not all(b.min <= n <= b.max for n in numbers if isinstance(n, int) for b in bounds):
        return False
    halves = [torch.finfo(d).max for d in dtypes if d.is_floating_point and d.itemsize == 2]
    return not any(math.isfinite(n) and abs(n) > most for n in numbers for most in halves)
