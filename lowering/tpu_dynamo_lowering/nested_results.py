"""Results within results: an operator that gives tuples among its results gives all their tensors side by side."""

from __future__ import annotations

import operator

from torch.fx import Graph, Node

from ._torch_compat import pytree


def flatten_results(graph: Graph) -> None:
    """Replace, in place, the numbers of each call's results by those of their leaves, as programs return them."""
    for node in graph.nodes:
        value = node.meta.get("val")
        if node.target is operator.getitem or not isinstance(value, list | tuple):
            continue
        if not any(isinstance(each, list | tuple) for each in value):
            continue
        first = 0
        takers = {user: user.args[1] for user in node.users if user.target is operator.getitem}
        for position, each in enumerate(value):
            for taker in [user for user, index in takers.items() if index == position]:
                _renumber(taker, first, isinstance(each, list | tuple))
            first += len(_leaves(each))
        node.meta["val"] = tuple(_leaves(value))


def _renumber(taker: Node, first: int, nested: bool) -> None:
    if not nested:
        taker.update_arg(1, first)
        return
    call = taker.args[0]
    for inner in list(taker.users):
        assert inner.target is operator.getitem, f"{inner} takes a tuple of results whole"
        inner.args = (call, first + inner.args[1])  # pyright: ignore[reportOperatorIssue]
    taker.graph.erase_node(taker)


def _leaves(value: object) -> list[object]:
    return pytree.tree_leaves(value)
