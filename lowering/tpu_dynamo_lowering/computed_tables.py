"""Tables that are computed row by row, of which a graph takes rows: only these rows are computed."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, Node

from ._torch_compat import FakeTensorMode, OpOverload
from .inserted_calls import insert_call

aten = torch.ops.aten

_RESHAPES = (aten.view.default, aten._unsafe_view.default, aten.reshape.default)


def compute_rows(graph: Graph, mode: FakeTensorMode) -> None:
    """Look up rows of what a table is computed from, and compute these, in place, where they are fewer than it has.

    The table of a quantised embedding is the case: it is dequantised whole, and then a few of its rows are taken.
    """
    for node in list(graph.nodes):
        if node.target is not aten.embedding.default:
            continue
        table, indices = node.args[:2]
        rows = table.meta["val"].shape[0]
        if not 0 < indices.meta["val"].numel() < rows or not _is_computed(table, rows):
            continue
        with graph.inserting_before(node):
            place = insert_call(graph, node, mode, aten.reshape.default, indices, [indices.meta["val"].numel()])
            found = _rows_of(graph, table, place, rows, mode, {})
            found = insert_call(graph, node, mode, aten.reshape.default, found, list(node.meta["val"].shape))
        node.replace_all_uses_with(found)
        graph.erase_node(node)
    graph.eliminate_dead_code()


def _is_computed(node: Node, rows: int) -> bool:
    """Tell whether a table comes from others by arithmetic on elements, and for this lookup alone."""
    while _by_rows(node, rows) and len(node.users) == 1:
        if node.target not in _RESHAPES:
            return True
        node = node.args[0]  # pyright: ignore[reportAssignmentType]
    return False


def _by_rows(node: Node, rows: int) -> bool:
    """Tell whether each of the `rows` slices of a node along its first dimension is computed from such slices."""
    if not isinstance(node.target, OpOverload) or len(node.users) > 1:
        return False
    if node.target in _RESHAPES:
        return _has_rows(node, rows) and _has_rows(node.args[0], rows)
    tags = node.target.tags
    elementwise = torch.Tag.pointwise in tags and torch.Tag.nondeterministic_seeded not in tags
    plain = not any(isinstance(value, Node) for value in node.kwargs.values())
    return plain and _has_rows(node, rows) and (elementwise or node.target is aten._to_copy.default)


def _has_rows(node: Any, rows: int) -> bool:
    shape = node.meta["val"].shape if isinstance(node.meta.get("val"), torch.Tensor) else ()
    return len(shape) > 1 and shape[0] == rows


def _rows_of(graph: Graph, node: Node, place: Node, rows: int, mode: FakeTensorMode, known: dict[Node, Node]) -> Node:
    """Insert what computes a node's slices at the indices `place`, [number]; `known` has those that are there."""
    if node in known:
        return known[node]
    if not _by_rows(node, rows):
        lookup = aten.embedding.default if node.meta["val"].ndim == 2 else aten.index_select.default
        args = (node, place) if node.meta["val"].ndim == 2 else (node, 0, place)
        known[node] = insert_call(graph, node, mode, lookup, *args)
    elif node.target in _RESHAPES:
        inner = _rows_of(graph, node.args[0], place, rows, mode, known)  # pyright: ignore[reportArgumentType]
        shape = [place.meta["val"].shape[0], *node.meta["val"].shape[1:]]
        known[node] = insert_call(graph, node, mode, aten.reshape.default, inner, shape)
    else:
        ndim = node.meta["val"].ndim
        operands: list[Any] = [
            _rows_of(graph, each, place, rows, mode, known)
            if isinstance(each, Node) and _has_rows(each, rows) and each.meta["val"].ndim == ndim
            else each
            for each in node.args
        ]
        known[node] = insert_call(graph, node, mode, node.target, *operands, **node.kwargs)
    return known[node]
