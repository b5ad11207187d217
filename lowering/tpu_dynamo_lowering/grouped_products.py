"""Products by group with matrices as they lie in memory, where a graph transposes them first."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, Node

from ._torch_compat import OpOverload

aten = torch.ops.aten

# Rows [S, K], sorted by group, by the transposes of matrices [G, N, K]; ends: int32[G], of each group's rows.
_library = torch.library.Library("tpu_dynamo_lowering", "FRAGMENT")
_library.define("multiply_rows(Tensor rows, Tensor matrices, Tensor ends) -> Tensor")

_PRODUCTS = {"aten::_grouped_mm", "tpu_dynamo::grouped_mm", "transformers::grouped_mm_fallback"}


def take_transposed(graph: Graph) -> None:
    """Multiply rows by group, in place, with the matrices that the graph transposes for it.

    A layer of experts keeps [experts, out, in] and hands on a transpose, of which a TPU's kernel would need a copy.
    """
    for node in list(graph.nodes):
        if not isinstance(node.target, OpOverload) or node.target._schema.name not in _PRODUCTS:
            continue
        rows, matrices, ends, *rest = (*node.args, *node.kwargs.values())
        if ends is None or any(each is not None for each in rest):
            continue
        if rows.meta["val"].ndim == 2 and (source := _transposed(matrices)) is not None:
            with graph.inserting_before(node):
                product = graph.call_function(torch.ops.tpu_dynamo_lowering.multiply_rows.default, (rows, source, ends))
            product.meta = dict(node.meta)
            node.replace_all_uses_with(product)
            graph.erase_node(node)
    graph.eliminate_dead_code()


def _transposed(node: Any) -> Node | None:
    """Return the [G, N, K] of which `node` is the [G, K, N]."""
    if node.meta["val"].ndim != 3:
        return None
    if node.target is aten.transpose.int and {dim % 3 for dim in node.args[1:]} == {1, 2}:
        return node.args[0]
    if node.target is aten.permute.default and [dim % 3 for dim in node.args[1]] == [0, 2, 1]:
        return node.args[0]
    return None
