"""Putting one graph's nodes into another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from ._torch_compat import pytree

# Metadata that says where a node comes from; the nodes that replace it inherit it.
ORIGIN = ("stack_trace", "nn_module_stack", "source_fn_stack", "original_aten", "from_node")


def inline(graph: Graph, body: GraphModule, inputs: Sequence[Any], origin: Mapping[str, Any] | None = None) -> Any:
    """Copy `body`'s nodes to `graph`'s insertion point; return its outputs as nodes of `graph`.

    inputs: for each placeholder of `body` the node, or number, that stands for it. origin: metadata of which the
    copies take what says where they come from.
    """
    given = iter(inputs)
    copies: dict[Node, Any] = {}
    for inner in body.graph.nodes:
        if inner.op == "placeholder":
            copies[inner] = next(given)
        elif inner.op == "output":
            return pytree.tree_map_only(Node, copies.__getitem__, inner.args[0])
        elif inner.op == "get_attr":
            copies[inner] = _copy_attribute(graph, inner, getattr(body, inner.target))
        else:
            copy = copies[inner] = graph.node_copy(inner, copies.__getitem__)
            copy.meta.update({k: v for k, v in (origin or {}).items() if k in ORIGIN})
    raise AssertionError("a graph without output")


def _copy_attribute(graph: Graph, node: Node, value: Any) -> Node:
    owner = graph.owning_module
    assert owner is not None
    if isinstance(value, GraphModule):
        name = f"_graph{len(owner._modules)}"
        owner.add_module(name, value)
    elif isinstance(value, torch.Tensor):
        name = f"_constant{len(owner._buffers)}"
        owner.register_buffer(name, value)
    else:  # as a DeviceMesh
        name = f"_object{node.name}"
        setattr(owner, name, value)
    copy = graph.create_node("get_attr", name)  # `get_attr` warns of what is no tensor
    copy.meta.update(node.meta)
    copy.meta.setdefault("val", value)
    return copy


def as_placeholder(graph: Graph, node: Node) -> Node:
    """Add an input to a graph that has the name and the value of a node of another graph."""
    placeholder = graph.placeholder(node.name)
    placeholder.meta.update({key: node.meta[key] for key in ("val", "storage_offset") if key in node.meta})
    return placeholder
