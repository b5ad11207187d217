"""The names that a graph's operations have in HLO, as a list: those of an equal graph elsewhere take their places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import sympy
import torch
from torch.fx import GraphModule

from .canonical import written_nodes
from .source_lines import operation_name, user_line
from .subgraphs import subgraph


def operation_names(
    graph_module: GraphModule, sizes: Mapping[sympy.Symbol, int | float] | None = None
) -> tuple[str, ...]:
    """Return the names of a graph's operations, with `sizes` in the place of its symbols; "" for those of no line.

    Graphs with equal texts, as `canonical` writes them, have lists of equal length: what stands at one position of both
    is one operation, wherever its code stands. So have graphs of Dynamo's that are equal node for node.
    """
    return tuple(_names(graph_module, sizes or {}))


def _names(graph_module: GraphModule, sizes: Mapping[sympy.Symbol, int | float]) -> Iterator[str]:
    for node in written_nodes(graph_module, sizes):
        if (inner := subgraph(node)) is not None:
            yield from _names(inner, sizes)
        elif node.op != "placeholder" or isinstance(node.meta.get("val"), torch.Tensor):
            # A backward graph's inputs too have the line that made them; sizes are no operands of a program.
            line = user_line(node)
            yield "" if line is None else operation_name(line, node)
