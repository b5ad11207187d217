"""Graphs inside graphs: the branches and bodies that a higher-order operator takes."""

from __future__ import annotations

from torch.fx import GraphModule, Node

from ._torch_compat import pytree


def subgraph(node: Node) -> GraphModule | None:
    """Return the graph that a get_attr node stands for, None for every other node."""
    if node.op != "get_attr":
        return None
    found = getattr(node.graph.owning_module, str(node.target), None)
    return found if isinstance(found, GraphModule) else None


def subgraphs(node: Node) -> list[GraphModule]:
    """Return the graphs among a call's arguments, in order."""
    return [inner for argument in arguments(node) if (inner := subgraph(argument)) is not None]


def nested(graph_module: GraphModule) -> list[GraphModule]:
    """Return a graph, and all graphs in it, at any depth."""
    inner = (each for node in graph_module.graph.nodes if (each := subgraph(node)) is not None)
    return [graph_module, *(graph for each in inner for graph in nested(each))]


def operands(node: Node) -> list[Node]:
    """Return the tensors among a call's arguments, in order; repeats stay."""
    return [argument for argument in arguments(node) if subgraph(argument) is None]


def arguments(node: Node) -> list[Node]:
    """Return the nodes among a call's arguments, in order; repeats stay."""
    return [leaf for leaf in pytree.tree_leaves((node.args, node.kwargs)) if isinstance(leaf, Node)]
