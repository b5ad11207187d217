"""A graph as a list of operators, of which any stretch can be made a graph of its own."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch.fx import Graph, GraphModule, Node

from ._torch_compat import fake_mode, graph_module_of
from .cuts import Part, part_with
from .randomness import is_drawn
from .sizes import bind_sizes
from .subgraphs import subgraphs
from .updates import take_writes


@dataclass(frozen=True)
class Operator:
    """One call, and the nodes that take its results apart. drawn: whether random numbers decide its results."""

    node: Node
    taken: tuple[Node, ...]
    drawn: bool

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes of the call."""
        return (self.node, *self.taken)

    @property
    def values(self) -> tuple[Node, ...]:
        """The nodes whose values are tensors."""
        return tuple(node for node in self.nodes if isinstance(node.meta.get("val"), torch.Tensor))


@dataclass(frozen=True)
class Functional:
    """A graph with numbers for its sizes, which writes to nothing.

    operators: its calls, in order. inputs: its placeholders. outputs: what it returns, nodes and literals. writes: the
    new values of inputs, by their positions.
    """

    module: GraphModule
    operators: tuple[Operator, ...]
    inputs: tuple[Node, ...]
    outputs: tuple[Any, ...]
    writes: tuple[tuple[int, Node], ...]

    @property
    def constants(self) -> dict[Node, Any]:
        """The values of the graph's own tensors and of the graphs in it."""
        nodes = self.module.graph.find_nodes(op="get_attr")
        return {node: getattr(self.module, str(node.target)) for node in nodes}

    def read_outside(self, operators: Sequence[Operator]) -> list[Node]:
        """Return the tensors of some operators that others read, or that the graph returns or writes."""
        inside = {node for each in operators for node in each.nodes}
        results = {each for each in self.outputs if isinstance(each, Node)} | {value for _, value in self.writes}
        return [
            node
            for each in operators
            for node in each.values
            if node in results or any(user not in inside for user in node.users)
        ]

    def stretch(self, operators: Sequence[Operator], outputs: Sequence[Node]) -> Part:
        """Return a stretch of the graph as a graph that returns `outputs`; results that were drawn are inputs."""
        return part_with(self.module, [node for each in operators if not each.drawn for node in each.nodes], outputs)


def functional(graph_module: GraphModule, sizes: Mapping[sympy.Symbol, int | float]) -> Functional:
    """Return a prepared graph at these sizes as a list of operators."""
    bound = bind_sizes(graph_module, sizes, fake_mode())
    writes = take_writes(bound.graph)
    operators = []
    for node in bound.graph.nodes:
        if node.op == "call_function" and node.target is not operator.getitem:
            operators.append(Operator(node, tuple(_taken(node)), _is_random(node)))
    inputs = tuple(bound.graph.find_nodes(op="placeholder"))
    outputs: Any = bound.graph.output_node().args[0]
    return Functional(bound, tuple(operators), inputs, tuple(outputs), tuple(writes))


def _taken(node: Node) -> list[Node]:
    """Return the nodes that take a call's results apart, those of results in results too."""
    found = [user for user in node.users if user.target is operator.getitem]
    return [each for user in found for each in (user, *_taken(user))]


def _is_random(node: Node) -> bool:
    return is_drawn(node) or any(is_drawn(each) for inner in subgraphs(node) for each in inner.graph.nodes)


def with_outputs(graph_module: GraphModule, extra: Collection[str]) -> GraphModule:
    """Return a copy of a graph that returns, after its outputs, the values of the nodes that `extra` names."""
    graph = Graph(graph_module)
    copies: dict[Node, Node] = {}
    for node in graph_module.graph.nodes:
        copy = copies[node] = graph.node_copy(node, copies.__getitem__)
        if node.op == "output":
            by_name = {each.name: copies[each] for each in graph_module.graph.nodes}
            outputs: Any = copy.args[0]
            copy.args = ((*outputs, *(by_name[name] for name in extra)),)
            if "val" in node.meta:
                copy.meta["val"] = (*node.meta["val"], *(by_name[name].meta["val"] for name in extra))
    return graph_module_of(graph_module, graph)


def drawn_values(graph_module: GraphModule) -> list[str]:
    """Return the names of the nodes whose tensors are drawn."""
    return [
        each.name
        for node in graph_module.graph.nodes
        if node.op == "call_function" and _is_random(node)
        for each in (node, *_taken(node))
        if isinstance(each.meta.get("val"), torch.Tensor)
    ]
