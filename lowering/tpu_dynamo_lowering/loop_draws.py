"""Random numbers inside loops: a loop carries a key for each operator of its body that draws, another in each round."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from ._torch_compat import FakeTensorMode
from .randomness import draw_key, fold_into_draw, is_draw, is_keyed
from .subgraphs import subgraph

aten = torch.ops.aten
_while_loop = torch.ops.higher_order.while_loop


def carry_keys(graph_module: GraphModule, mode: FakeTensorMode) -> None:
    """Let each `while_loop` carry the keys of the draws in its body, in place; each round adds one to them.

    The first round's are marks that `give_keys` replaces. Draws in graphs within the body stay without a key.
    """
    for node in graph_module.graph.find_nodes(op="call_function", target=_while_loop):
        condition, body = subgraph(node.args[0]), subgraph(node.args[1])
        assert condition is not None and body is not None
        draws = [each for each in body.graph.nodes if is_draw(each) and not is_keyed(each)]
        if not draws:
            continue
        carried = node.args[2]
        with mode:
            keys = [torch.empty(1, dtype=torch.int64, device="cpu") for _ in draws]
        for graph in (condition.graph, body.graph):
            inner = _placeholders(graph, len(carried), keys)
        _use(body.graph, draws, inner, keys)
        with node.graph.inserting_before(node):
            marks = [node.graph.call_function(draw_key) for _ in draws]
        for mark, key in zip(marks, keys, strict=True):
            mark.meta["val"] = key
        node.args = (*node.args[:2], (*carried, *marks), *node.args[3:])
        node.meta["val"] = (*node.meta["val"], *keys)


def _placeholders(graph: Graph, position: int, keys: list[torch.Tensor]) -> list[Node]:
    """Add placeholders of keys before the one at a position."""
    given = graph.find_nodes(op="placeholder")
    following = given[position] if position < len(given) else given[-1].next
    with graph.inserting_before(following):
        added = [graph.placeholder(f"key_{i}") for i in range(len(keys))]
    for node, key in zip(added, keys, strict=True):
        node.meta["val"] = key
    return added


def _use(graph: Graph, draws: list[Node], given: list[Node], keys: list[torch.Tensor]) -> None:
    output = graph.output_node()
    with graph.inserting_before(output):
        following = [graph.call_function(aten.add.Tensor, (key, 1)) for key in given]
    for node, key, draw, mine in zip(following, keys, draws, given, strict=True):
        node.meta["val"] = key
        fold_into_draw(draw, lambda _, mine=mine: mine)
    results: Any = output.args[0]
    output.args = ((*results, *following),)
    for mark in graph.find_nodes(op="call_function", target=draw_key):
        graph.erase_node(mark)
