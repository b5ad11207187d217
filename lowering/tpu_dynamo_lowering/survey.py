"""Surveying a graph: how each of its operators would be lowered, without lowering it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import sympy
from torch.fx import GraphModule

from ._torch_compat import fake_mode, outside_of_function_modes
from .errors import Unsupported, UnsupportedOp
from .expand import expand
from .layouts import expose_results
from .sizes import bind_sizes
from .table import How, choose
from .updates import take_writes


@outside_of_function_modes()
def survey(
    graph_module: GraphModule, sizes: Mapping[sympy.Symbol, int | float]
) -> tuple[Counter[tuple[str, str]], tuple[Unsupported, ...]]:
    """How often each (operator, way) occurs in a prepared graph, and what cannot be lowered.

    Operators are the graph's own, before they are expanded.
    """
    mode = fake_mode()
    graph = bind_sizes(graph_module, sizes, mode)
    take_writes(graph.graph)
    found: Counter[tuple[str, str]] = Counter()
    for node in graph.graph.nodes:
        if node.op == "call_function" and not str(node.target).startswith("<built-in"):
            chosen = choose(node)
            way = How.DECOMPOSITION if chosen is None else chosen if isinstance(chosen, How) else chosen.how
            found[str(node.target), str(way)] += 1
    try:
        expose_results(graph, mode)
        expand(graph, mode)
    except UnsupportedOp as unsupported:
        return found, unsupported.problems
    return found, ()
