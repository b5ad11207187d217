"""Extremes of normalised rows, from the rows before they are normalised: one reading of a tensor fewer."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, Node

from ._torch_compat import FakeTensorMode
from .inserted_calls import insert_call

aten = torch.ops.aten

_EXTREMES = (aten.amin.default, aten.amax.default)
_FLOATS = (torch.bfloat16, torch.float16, torch.float32)
_SAME_VALUES = (aten.view.default, aten.alias.default, aten.slice.Tensor, aten._to_copy.default)


def reduce_before_scaling(graph: Graph, mode: FakeTensorMode) -> None:
    """Replace, in place, extremes of `x * row * column` by `row` times the extremes of `x * column`.

    row: the rsqrt by which a norm scales each row, never negative; column: its weight, if any. The norm's output is
    then quantised with a scale that is computed where the sum of squares is, in one reading of x: XLA makes one fusion
    of several reductions of one tensor, and the extremes of the output would wait for the sum. They are rounded once,
    where the norm rounds twice, so the scale may differ in its last place.
    """
    for node in list(graph.nodes):
        found = _scaled(node.args[0]) if node.target in _EXTREMES and isinstance(node.args[0], Node) else None
        if found is None:
            continue
        x, row, column = found
        # Of the shape of a reduction that keeps its dimensions: one number for each extreme.
        if row.meta["val"].shape != node.meta["val"].shape:
            continue

        def call(target: Any, *args: Any, origin: Node = node, **kwargs: Any) -> Node:
            return insert_call(graph, origin, mode, target, *args, **kwargs)

        with graph.inserting_before(node):
            if column is not None:
                x = call(aten.mul.Tensor, x, call(aten._to_copy.default, column, dtype=torch.float32))
            extremes = call(aten.mul.Tensor, call(node.target, x, *node.args[1:]), row)
            result = call(aten._to_copy.default, extremes, dtype=node.meta["val"].dtype)
        node.replace_all_uses_with(result)
        graph.erase_node(node)


def _scaled(value: Node) -> tuple[Node, Node, Node | None] | None:
    """Return x, row and column of a value `x * row * column` or `x * row`, where it is such a product."""
    if value.meta["val"].dtype not in _FLOATS:
        return None
    value = _plain(value)
    if (whole := _by_row(value)) is not None:
        return *whole, None
    for inner, column in _factors(value):
        if (found := _by_row(_plain(inner))) is not None and column.meta["val"].dtype in _FLOATS:
            return *found, column
    return None


def _by_row(value: Node) -> tuple[Node, Node] | None:
    """Return x and row of a value `x * row` in float32, where row is an rsqrt."""
    if value.meta["val"].dtype != torch.float32:
        return None
    return next((pair for pair in _factors(value) if pair[1].target is aten.rsqrt.default), None)


def _factors(value: Node) -> list[tuple[Node, Node]]:
    """Return both tensors of a product in both orders; nothing for what is no product of two tensors."""
    if value.target is not aten.mul.Tensor:
        return []
    one, other = value.args[:2]
    return [(one, other), (other, one)] if isinstance(one, Node) and isinstance(other, Node) else []


def _plain(value: Node) -> Node:
    """Return the value behind views and slices that are all of it, and changes of floating dtype."""
    while value.target in _SAME_VALUES and isinstance(source := value.args[0], Node):
        own, found = source.meta["val"], value.meta["val"]
        if own.shape != found.shape or own.dtype not in _FLOATS or found.dtype not in _FLOATS:
            break
        value = source
    return value
