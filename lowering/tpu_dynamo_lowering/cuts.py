"""Cutting a graph around calls of operators that have no lowering, and telling which these are."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch.fx import Graph, GraphModule, Node

from . import outside
from ._torch_compat import OpOverload, fake_mode, graph_module_of, pytree
from .errors import Unsupported, UnsupportedOp
from .expand import definition
from .inline import as_placeholder
from .refusals import refusal
from .sizes import bind_sizes
from .table import FOREIGN, PATTERNS, TABLE
from .writing_operators._torch_compat import ON_COPIES
from .writing_operators.calls import lowering_on_copies


@dataclass(frozen=True)
class Part:
    """Operators between two cuts, as a graph of their own.

    inputs: nodes of the whole graph, in the order of the module's. outputs: those that the module returns.
    """

    module: GraphModule
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]


@dataclass(frozen=True)
class OperatorCall:
    """One call between the parts; problem: why the operator has no lowering. taken: nodes that take its results."""

    node: Node
    problem: Unsupported
    taken: tuple[Node, ...]


@dataclass(frozen=True)
class CutUp:
    """A graph with numbers for its sizes, in steps. inputs, outputs: the whole graph's, with literals among these."""

    steps: tuple[Part | OperatorCall, ...]
    inputs: tuple[Node, ...]
    outputs: tuple[Any, ...]


def without_lowering(graph_module: GraphModule) -> dict[str, Unsupported]:
    """Return the calls of a prepared graph for which no table says anything, by the names of their nodes.

    Only calls that can be run by themselves: of operators, and of those that write to copies of their arguments.
    """
    found = {}
    for node in graph_module.graph.nodes:
        target = node.target
        if isinstance(target, OpOverload):
            known = target in PATTERNS or target in TABLE or target._schema.name in FOREIGN
            if not known and outside.find(target) is None and definition(target) is None:
                found[node.name] = refusal(node)
        elif target in ON_COPIES and lowering_on_copies(node) is None:
            found[node.name] = refusal(node)
    return found


def refused(graph_module: GraphModule, unsupported: UnsupportedOp) -> dict[str, Unsupported]:
    """Return the calls of a graph that its lowering refused for their arguments, by the names of their nodes.

    None at all where one of them is no call of the graph's own: of an operator that a decomposition called, or that a
    pass added.
    """
    targets = {node.name: node.target for node in graph_module.graph.nodes if node.op == "call_function"}
    found: dict[str, Unsupported] = {}
    for problem in unsupported.problems:
        target = targets.get(problem.node or "")
        alone = isinstance(target, OpOverload) or target in ON_COPIES
        if not alone or not problem.operation.startswith(str(target)):
            return {}
        found[str(problem.node)] = problem
    return found


def cut(
    graph_module: GraphModule, sizes: Mapping[sympy.Symbol, int | float], calls: Mapping[str, Unsupported]
) -> CutUp:
    """Cut a graph around calls, by the names of their nodes. What needs no call's result is computed before all calls.

    Writes to the graph's inputs come last.
    """
    bound = bind_sizes(graph_module, sizes, fake_mode())
    levels = _levels(bound.graph, calls)
    results: Any = bound.graph.output_node().args[0]
    given = tuple(bound.graph.find_nodes(op="placeholder"))
    steps: list[Part | OperatorCall] = []
    for level in range(max(levels.values(), default=0) + 1):
        nodes = [node for node, own in levels.items() if own == level and node.name not in calls]
        if nodes:
            steps.append(_part(bound, nodes, pytree.tree_leaves(results)))
        for node, own in levels.items():
            if own == level and node.name in calls:
                taken = tuple(user for user in node.users if user.target is operator.getitem)
                steps.append(OperatorCall(node, calls[node.name], taken))
    return CutUp(tuple(steps), given, tuple(results))


def _levels(graph: Graph, calls: Mapping[str, Unsupported]) -> dict[Node, int]:
    """Return of each operator the number of calls, one behind the other, that come before it."""
    levels: dict[Node, int] = {}
    behind: dict[Node, int] = {}  # the first level that can read a value
    for node in graph.nodes:
        behind[node] = max((behind[each] for each in node.all_input_nodes), default=0)
        if node.op != "call_function":
            continue
        source = node.args[0] if node.target is operator.getitem else None
        if isinstance(source, Node) and source.name in calls:
            continue  # read where the call is made
        levels[node] = behind[node]
        if node.name in calls:
            behind[node] += 1
    last = max(behind.values(), default=0)
    return {node: last if _writes(node) else level for node, level in levels.items()}


def _writes(node: Node) -> bool:
    return isinstance(node.target, OpOverload) and node.target._schema.is_mutable


def _part(whole: GraphModule, nodes: Sequence[Node], results: Sequence[Any]) -> Part:
    """Make a graph of some of the nodes, which returns what others read. results: what the whole graph returns."""
    inside, returned = set(nodes), {each for each in results if isinstance(each, Node)}
    outputs = [n for n in nodes if n in returned or any(user not in inside for user in n.users if user.op != "output")]
    return part_with(whole, nodes, outputs)


def part_with(whole: GraphModule, nodes: Sequence[Node], outputs: Sequence[Node]) -> Part:
    """Make a graph of some nodes of a whole one, in its order, which returns the values of `outputs`.

    Constants that the nodes read come along; every other value from outside is an input.
    """
    graph, inside = Graph(whole), set(nodes)
    attributes = {each for node in nodes for each in node.all_input_nodes if each.op == "get_attr"}
    inputs = tuple(
        dict.fromkeys(e for n in nodes for e in n.all_input_nodes if e not in inside and e not in attributes)
    )
    copies: dict[Node, Node] = {each: as_placeholder(graph, each) for each in inputs}
    for node in whole.graph.nodes:
        if node in inside or node in attributes:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[each] for each in outputs)).meta["val"] = tuple(each.meta["val"] for each in outputs)
    return Part(graph_module_of(whole, graph), inputs, tuple(outputs))


def promised(node: Node) -> list[torch.Tensor]:
    """Return the tensors that an operator's fake kernel says it returns."""
    return [each for each in pytree.tree_leaves(node.meta["val"]) if isinstance(each, torch.Tensor)]
