"""Rows of a table that are looked up once and repeated, where a graph repeats the indices."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph

from ._torch_compat import FakeTensorMode

aten = torch.ops.aten


def repeat_rows(graph: Graph, mode: FakeTensorMode) -> None:
    """Look up the rows for indices before these are expanded, in place, and expand the rows.

    The positions and token types of a batch are the case, which most models make of one row of indices. A TPU gathers
    row by row, and repeats for nothing.
    """
    for node in list(graph.nodes):
        if node.target is not aten.embedding.default or node.args[1].target is not aten.expand.default:
            continue
        table, expanded, *rest = node.args
        indices: Any = expanded.args[0]
        shape = node.meta["val"].shape
        # Dimensions that an expansion adds in front are of size 1 in the rows.
        if indices.meta["val"].numel() == expanded.meta["val"].numel():
            continue
        steps: tuple[tuple[Any, tuple[Any, ...], dict[str, Any]], ...] = (
            (aten.embedding.default, (table, indices, *rest), {}),
            (aten.expand.default, (list(shape),), {}),
            (aten.clone.default, (), {"memory_format": torch.contiguous_format}),
        )
        with graph.inserting_before(node):
            found = None
            for target, args, kwargs in steps:
                operands = args if found is None else (found, *args)
                found = graph.call_function(target, operands, kwargs)
                found.meta = dict(node.meta)
                with mode:
                    found.meta["val"] = target(*torch.fx.map_arg(operands, lambda one: one.meta["val"]), **kwargs)
        node.replace_all_uses_with(found)
        graph.erase_node(node)
    graph.eliminate_dead_code()
