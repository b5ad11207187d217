"""A survey of a graph: how each of its operators would be lowered, without lowering it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import sympy
from torch.fx import GraphModule, Node

from ._torch_compat import HigherOrderOperator, OpOverload, fake_mode, outside_of_function_modes
from .choice import choose
from .errors import Unsupported, UnsupportedOp
from .expand import definition, expand
from .layouts import expose_results
from .sizes import bind_sizes
from .table import How
from .updates import take_writes


@outside_of_function_modes()
def survey(
    graph_module: GraphModule, sizes: Mapping[sympy.Symbol, int | float]
) -> tuple[Counter[tuple[str, str]], tuple[Unsupported, ...]]:
    """Count each (operator, way of lowering) of a prepared graph, and find what cannot be lowered.

    Operators are the graph's own, before they are expanded. One without any lowering is not counted: it is among the
    second result's problems.
    """
    mode = fake_mode()
    graph = bind_sizes(graph_module, sizes, mode)
    take_writes(graph.graph)
    found: Counter[tuple[str, str]] = Counter()
    for node in graph.graph.nodes:
        if isinstance(node.target, OpOverload | HigherOrderOperator) and (way := _way(node)) is not None:
            found[str(node.target), str(way)] += 1
    try:
        expose_results(graph, mode)
        expand(graph, mode)
    except UnsupportedOp as unsupported:
        return found, unsupported.problems
    return found, ()


def _way(node: Node) -> How | None:
    """Return the way by which a call would be lowered, or None if there is none."""
    chosen = choose(node)
    if chosen is None:
        return None if definition(node.target) is None else How.DECOMPOSITION
    return chosen if isinstance(chosen, How) else chosen.how
