"""Running sums of repeated numbers under a triangular mask, said as the sums that they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.fx import Graph, Node

aten = torch.ops.aten

_library = torch.library.Library("tpu_dynamo_lowering", "FRAGMENT")
_library.define("sums_between(Tensor self, int dim, int across, int size, int diagonal) -> Tensor")

SUMS_BETWEEN = torch.ops.tpu_dynamo_lowering.sums_between.default


def name_sums(graph: Graph, values: Mapping[Node, torch.Tensor]) -> None:
    """Replace, in place, a cumsum of a repeated tensor that a triangular mask sets to zero by an operator that says so.

    values: the tensors that depend on no input, the mask among them. State-space models add up the decays between all
    pairs of positions so: element [i, j] is the sum of what lies from j + diagonal to i, of few numbers n * n sums.
    """
    for node in list(graph.nodes):
        if node.target is aten.cumsum.default and (found := _sums(node, values)) is not None:
            with graph.inserting_before(node):
                sums = graph.call_function(SUMS_BETWEEN, found)
            sums.meta.update(node.meta)
            node.replace_all_uses_with(sums)
            graph.erase_node(node)
    graph.eliminate_dead_code()


def _sums(node: Node, values: Mapping[Node, torch.Tensor]) -> tuple[Node, int, int, int, int] | None:
    """Return the arguments of the operator that a cumsum is; None where it is another running sum."""
    arguments: Any = node.args
    own = node.meta["val"]
    chosen = _chosen(arguments[0], values)
    if chosen is None or not own.is_floating_point() or not own.ndim:
        return None
    repeated, keep = chosen
    if repeated.target is not aten.expand.default:
        return None
    source, rank, dim = repeated.all_input_nodes[0], own.ndim, arguments[1] % own.ndim
    before, between = source.meta["val"], repeated.meta["val"]
    if before.ndim != rank or between.shape != own.shape or between.dtype != own.dtype:
        return None
    across = [each for each in range(rank) if before.shape[each] != own.shape[each]]
    if len(across) != 1 or across == [dim]:
        return None
    diagonal = _diagonal(keep, rank, dim, across[0])
    return None if diagonal is None else (source, dim, across[0], own.shape[across[0]], diagonal)


def _chosen(node: Any, values: Mapping[Node, torch.Tensor]) -> tuple[Node, torch.Tensor] | None:
    """Return the tensor and the known mask of a choice between it and zero; None for anything else."""
    while node.target is aten.clone.default:
        node = node.args[0]
    if node.target is aten.masked_fill.Scalar and node.args[1] in values and node.args[2] == 0:
        return node.args[0], ~values[node.args[1]]
    if node.target is not aten.where.self or node.args[0] not in values:
        return None
    mask, chosen, other = node.args
    for keep, tensor, rest in ((values[mask], chosen, other), (~values[mask], other, chosen)):
        if rest in values and bool((values[rest] == 0).all()):
            return tensor, keep
    return None


def _diagonal(keep: torch.Tensor, rank: int, dim: int, across: int) -> int | None:
    """Return the d, not less than zero, of a mask that keeps what is d positions further along `dim` than across it."""
    whole = keep.reshape((1,) * (rank - keep.ndim) + keep.shape)
    others = [each for each in range(rank) if each not in (dim, across)]
    if any(whole.shape[each] != 1 for each in others):
        return None
    matrix = whole.permute(*others, dim, across).reshape(whole.shape[dim], whole.shape[across])
    if not matrix.any():
        return None
    row, column = matrix.nonzero().unbind(1)
    diagonal = int((row - column).min())
    return diagonal if diagonal >= 0 and torch.equal(matrix, torch.ones_like(matrix).tril(-diagonal)) else None
