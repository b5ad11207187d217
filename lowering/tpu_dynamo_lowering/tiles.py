"""Gradients of slices that tile a tensor, put side by side instead of being padded with zeros and added up."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from ._torch_compat import FakeTensorMode
from .inserted_calls import insert_call

aten = torch.ops.aten

_GRADIENTS = {aten.slice_backward.default, aten.select_backward.default}


@dataclass(frozen=True)
class _Tile:
    """A term of a sum that is zero outside of `start` to `end` along `dim`: the gradient of a slice, or of an index."""

    term: Node
    dim: int
    start: int
    end: int


def join_tiles(graph_module: GraphModule, mode: FakeTensorMode) -> None:
    """Put one concatenation in the place of the terms of each sum that are slices' gradients and tile it, in place.

    Autograd gives each slice of a tensor, as the halves that rotary embeddings turn or the queries, keys and values of
    one projection, a gradient of the whole tensor's size, and adds them: a pad and an addition for each, where the
    parts have but to be written side by side. The sum is the same to the bit, but for the sign of zeros.
    """
    graph = graph_module.graph
    for node in list(graph.nodes):
        # Not the sums that are terms of others.
        if _is_sum(node) and not (len(node.users) == 1 and _is_sum(next(iter(node.users)))):
            terms = _terms(node)
            tiles = _tiling(terms, node.meta["val"].shape)
            if tiles:
                _replace(graph, node, terms, tiles, mode)


def _is_sum(node: Node) -> bool:
    """Return True if the node adds two tensors of one shape and dtype, without a factor."""
    if node.target is not aten.add.Tensor or node.kwargs or not all(isinstance(each, Node) for each in node.args):
        return False
    return len({(n.meta["val"].shape, n.meta["val"].dtype) for n in (node, *node.all_input_nodes)}) == 1


def _terms(node: Node) -> list[Node]:
    """Return what a sum adds up, in order; sums among its operands that are used nowhere else are resolved."""
    terms: list[Node] = []
    for operand in node.args:
        assert isinstance(operand, Node)
        terms += _terms(operand) if _is_sum(operand) and len(operand.users) == 1 else [operand]
    return terms


def _tiling(terms: list[Node], shape: torch.Size) -> list[_Tile]:
    """Find tiles that cover a dimension without overlap; the empty list where there are none."""
    along: dict[int, list[_Tile]] = defaultdict(list)
    for tile in filter(None, (_tile(term) for term in terms)):
        along[tile.dim].append(tile)
    for dim, tiles in along.items():
        tiles.sort(key=lambda tile: tile.start)
        edges = [0, *(tile.end for tile in tiles)]
        if len(tiles) > 1 and [tile.start for tile in tiles] == edges[:-1] and edges[-1] == shape[dim]:
            return tiles
    return []


def _tile(term: Node) -> _Tile | None:
    if len(term.users) != 1 or term.target not in _GRADIENTS:
        return None
    arguments: Any = term.args
    _, sizes, dim, *place = arguments
    dim %= len(sizes)
    size = sizes[dim]
    if term.target is aten.select_backward.default:
        start = place[0] % size
        return _Tile(term, dim, start, start + 1)
    start, end, step = place
    start, end, _ = slice(start, end).indices(size)
    return _Tile(term, dim, start, end) if step == 1 and start < end else None


def _replace(graph: Graph, node: Node, terms: list[Node], tiles: list[_Tile], mode: FakeTensorMode) -> None:
    with graph.inserting_before(node):
        parts = [_part(graph, tile, mode) for tile in tiles]
        total = insert_call(graph, tiles[0].term, mode, aten.cat.default, parts, tiles[0].dim)
        joined = {tile.term for tile in tiles}
        for term in terms:
            if term not in joined:
                total = insert_call(graph, node, mode, aten.add.Tensor, term, total)
    total.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(total)
    _erase(graph, node)


def _erase(graph: Graph, node: Node) -> None:
    """Erase a sum that nothing uses, and what only it used of other sums and of tiles."""
    if not node.users and (_is_sum(node) or node.target in _GRADIENTS):
        operands = node.all_input_nodes
        graph.erase_node(node)
        for operand in operands:
            _erase(graph, operand)


def _part(graph: Graph, tile: _Tile, mode: FakeTensorMode) -> Any:
    gradient = tile.term.args[0]
    if tile.term.target is aten.slice_backward.default:
        return gradient
    return insert_call(graph, tile.term, mode, aten.unsqueeze.default, gradient, tile.dim)
