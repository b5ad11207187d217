"""Gradients of a table that is looked up and multiplied by: the rows' gradients are added into the product."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, Node

from ._torch_compat import FakeTensorMode

aten = torch.ops.aten


def add_into_products(graph: Graph, mode: FakeTensorMode) -> None:
    """Add gradients of looked up rows into the other gradient of the table, in place, where they are summed up.

    The table of a language model whose head is tied is the case. Of a sum, XLA fuses the optimizer's update of the
    whole table into the product, which takes longer than both of them apart; and a gradient of zeros but for the rows
    is not made.
    """
    for node in list(graph.nodes):
        if node.target is not aten.add.Tensor or node.kwargs or not all(isinstance(each, Node) for each in node.args):
            continue
        terms: Any = node.args
        for rows, other in (terms, terms[::-1]):
            if _suits(rows, other, node):
                _scatter(graph, node, rows, other, mode)
                break
    graph.eliminate_dead_code()


def _suits(rows: Node, other: Node, total: Node) -> bool:
    """Tell whether a term is the gradient of rows, each of which counts once and none of which is left out."""
    if rows.target is not aten.embedding_dense_backward.default or len(rows.users) > 1:
        return False
    arguments: Any = rows.args
    _, _, _, padding, by_frequency = arguments
    alike = {(each.meta["val"].shape, each.meta["val"].dtype) for each in (rows, other, total)}
    return padding == -1 and not by_frequency and len(alike) == 1


def _scatter(graph: Graph, total: Node, rows: Node, other: Node, mode: FakeTensorMode) -> None:
    arguments: Any = rows.args
    with graph.inserting_before(total):
        result = graph.call_function(aten.index_put.default, (other, [arguments[1]], arguments[0], True))
    result.meta = dict(total.meta)
    with mode:
        fakes = torch.fx.map_arg(result.args, lambda one: one.meta["val"])
        result.meta["val"] = aten.index_put.default(*fakes)
    total.replace_all_uses_with(result)
