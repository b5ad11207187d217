"""A step that writes to its inputs, repeated by one graph until it says to stop."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

aten = torch.ops.aten
_copy = aten.copy_.default


def repeated(step: GraphModule) -> GraphModule:
    """Return a graph with the inputs and outputs of a step that repeats it while its output is True, once at least.

    step: a functional ATen graph whose output is one bool without dimensions, and which ends with `copy_`s to the
    inputs that it changes. Those are what the loop carries; the others are the same in each round.
    """
    given = step.graph.find_nodes(op="placeholder")
    writes = {node.args[0]: node.args[1] for node in step.graph.find_nodes(op="call_function", target=_copy)}
    outputs: Any = step.graph.output_node().args[0]
    (flag,) = outputs
    carried = [node for node in given if node in writes]
    others = [node for node in given if node not in writes]
    order = [*carried, *others]

    owner = GraphModule(step, Graph())
    owner.add_module("_going", _condition(flag, order))
    owner.add_module("_step", _body(step, flag, [writes[node] for node in carried], order))
    graph = owner.graph
    copies = {node: graph.node_copy(node) for node in given}
    values = flag.meta["val"], *(node.meta["val"] for node in carried)
    begin = graph.call_function(aten.full.default, ([], True), {"dtype": torch.bool, "device": values[0].device})
    begin.meta["val"] = values[0]
    graphs = [graph.get_attr("_going"), graph.get_attr("_step")]
    operands = (begin, *(copies[node] for node in carried)), tuple(copies[node] for node in others)
    loop = graph.call_function(torch.ops.higher_order.while_loop, (*graphs, *operands))
    loop.meta["val"] = values
    results = [graph.call_function(operator.getitem, (loop, i)) for i in range(len(values))]
    for result, value in zip(results, values, strict=True):
        result.meta["val"] = value
    for node, result in zip(carried, results[1:], strict=True):
        graph.call_function(_copy, (copies[node], result)).meta["val"] = node.meta["val"]
    graph.output((results[0],))
    owner.recompile()
    return owner


def _condition(flag: Node, inputs: Sequence[Node]) -> GraphModule:
    graph = Graph()
    going, *_ = _placeholders(graph, flag, inputs)
    graph.output((going,))
    return GraphModule(torch.nn.Module(), graph)


def _body(step: GraphModule, flag: Node, results: Sequence[Any], inputs: Sequence[Node]) -> GraphModule:
    graph = Graph(step)
    copies: dict[Node, Node] = dict(zip(inputs, _placeholders(graph, flag, inputs)[1:], strict=True))
    for node in step.graph.nodes:
        if node.op not in ("placeholder", "output") and node.target is not _copy:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output((copies[flag], *(copies[node] for node in results)))
    return GraphModule(step, graph)


def _placeholders(graph: Graph, flag: Node, inputs: Sequence[Node]) -> list[Node]:
    nodes = [graph.placeholder("going"), *(graph.placeholder(node.name) for node in inputs)]
    for node, like in zip(nodes, (flag, *inputs), strict=True):
        node.meta["val"] = like.meta["val"]
    return nodes
