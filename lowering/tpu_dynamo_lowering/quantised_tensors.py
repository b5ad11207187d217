"""Tensors of PyTorch's quantised dtypes that begin and end in a graph, as integers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node

from ._torch_compat import FakeTensorMode
from .inserted_calls import insert_call

aten = torch.ops.aten

# The integers of a quantised tensor, and the values that they stand for: with numbers, and with tensors of one element.
_library = torch.library.Library("tpu_dynamo_lowering", "FRAGMENT")
_library.define("quantize(Tensor self, float scale, int zero_point, ScalarType dtype) -> Tensor")
_library.define("quantize.tensors(Tensor self, Tensor scale, Tensor zero_point, ScalarType dtype) -> Tensor")
_library.define("dequantize(Tensor self, float scale, int zero_point) -> Tensor")
_library.define("dequantize.tensors(Tensor self, Tensor scale, Tensor zero_point) -> Tensor")


def _integers(self: Tensor, scale: Any, zero_point: Any, dtype: torch.dtype) -> Tensor:
    return torch.empty_like(self, dtype=INTEGERS[dtype])


def _values(self: Tensor, scale: Any, zero_point: Any) -> Tensor:
    return torch.empty_like(self, dtype=torch.float32)


for _overload in ("", ".tensors"):
    _library._register_fake(f"quantize{_overload}", _integers)
    _library._register_fake(f"dequantize{_overload}", _values)

_own = torch.ops.tpu_dynamo_lowering
DEQUANTIZE = (_own.dequantize.default, _own.dequantize.tensors)
_QUANTIZE = {
    aten.quantize_per_tensor.default: (_own.quantize.default, _own.dequantize.default),
    aten.quantize_per_tensor.tensor_qparams: (_own.quantize.tensors, _own.dequantize.tensors),
}
INTEGERS = {torch.qint8: torch.int8, torch.quint8: torch.uint8, torch.qint32: torch.int32}

# What moves elements and computes none.
_MOVES = {
    aten.alias.default,
    aten.clone.default,
    aten.expand.default,
    aten.permute.default,
    aten.select.int,
    aten.slice.Tensor,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.t.default,
    aten.transpose.int,
    aten.unsqueeze.default,
    aten.view.default,
    aten._unsafe_view.default,
}


def take_integers(graph: Graph, mode: FakeTensorMode) -> None:
    """Replace, in place, quantised tensors by their integers, where a graph only moves and dequantises them.

    Fake tensors are of float32 there, since PyTorch has none of quantised dtypes. The others stay, and are refused by
    name (`rewrites/quantised_tensors.py`).
    """
    for node in list(graph.nodes):
        if node.target not in _QUANTIZE or node.args[3] not in INTEGERS or not _ends_here(node):
            continue
        quantize, dequantize = _QUANTIZE[node.target]
        value, scale, zero_point, dtype = node.args
        if value.meta["val"].dtype != torch.float32:
            continue  # eager PyTorch refuses it
        with graph.inserting_before(node):
            integers = insert_call(graph, node, mode, quantize, value, scale, zero_point, dtype)
        _replace(graph, node, integers, dequantize, (scale, zero_point), mode)


def _ends_here(node: Node) -> bool:
    """Tell whether all that becomes of a quantised tensor is dequantised in the graph."""
    for user in node.users:
        if user.target is aten.dequantize.self:
            continue
        if user.target not in _MOVES or not _ends_here(user):
            return False
    return bool(node.users)


def _replace(graph: Graph, old: Node, new: Node, dequantize: Any, grid: tuple[Any, Any], mode: FakeTensorMode) -> None:
    """Move and dequantise `new` wherever `old` is moved and dequantised, and erase that."""
    for user in list(old.users):
        with graph.inserting_before(user):
            if user.target is aten.dequantize.self:
                values = insert_call(graph, user, mode, dequantize, new, *grid)
                user.replace_all_uses_with(values)
                graph.erase_node(user)
            else:
                moved = insert_call(graph, user, mode, user.target, new, *user.args[1:], **user.kwargs)
                _replace(graph, user, moved, dequantize, grid, mode)
    graph.erase_node(old)
