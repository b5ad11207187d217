"""Activation checkpointing inside one program: the backward recomputes the values that a checkpoint does not save."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch.fx import Graph, Node
from torch.utils.checkpoint import CheckpointPolicy

from tpu_dynamo_lowering import repeat_draw

aten = torch.ops.aten

_RECOMPUTE = (CheckpointPolicy.MUST_RECOMPUTE, CheckpointPolicy.PREFER_RECOMPUTE)


# Marks a forward node by which a parameter is gathered, and what only views that: the backward computes it again.
_GATHER = "tpu_dynamo_gather"
_VIEWS = (
    aten.view.default, aten.t.default, aten.transpose.int, aten.permute.default, aten.split.Tensor, aten.cat.default,
    aten.slice.Tensor, operator.getitem,
)  # fmt: skip


def gather_again(shards: Sequence[Node]) -> None:
    """Let the backward gather parameters again of which forward nodes begin with these shards, in place.

    What the forward gathered is then freed when it was read, as FSDP2's reshard_after_forward has it.
    """
    for shard in shards:
        reached, gathered = {shard}, set[Node]()
        for node in shard.graph.nodes:
            operands = [each for each in node.all_input_nodes if isinstance(each.meta.get("val"), torch.Tensor | list)]
            if not operands or not _is_forward(node) or not reached.issuperset(operands):
                continue
            if gathered.isdisjoint(operands) or node.target in _VIEWS:
                reached.add(node)
                if node.target is torch.ops._c10d_functional.wait_tensor.default or not gathered.isdisjoint(operands):
                    gathered.add(node)
        if gathered:
            for node in reached - {shard}:
                node.meta[_GATHER] = True


def rematerialise(graph: Graph) -> None:
    """Give backward nodes copies of the forward nodes that checkpoints recompute, in place.

    The values that the copies start from pass an `optimization_barrier` together with a gradient: otherwise XLA would
    find the copies equal to the originals and keep these alive, or compute the copies early.
    Source: StableHLO `optimization_barrier`; JAX's remat does the same.
    """
    copies: dict[Node, Node] = {}
    held: dict[Node, Node] = {}  # the values that copies start from -> the same behind a barrier
    for node in list(graph.nodes):
        if node.meta.get("partitioner_tag") != "is_backward" or not any(map(_is_recomputed, node.all_input_nodes)):
            continue
        needed = _recomputed_for(node, copies)
        with graph.inserting_before(node):
            _hold(graph, node, [n for n in _starts(needed) if n not in held], held)
            for original in needed:
                copies[original] = copy = graph.node_copy(original, lambda n: copies.get(n) or held.get(n) or n)
                copy.meta["partitioner_tag"] = "is_backward"
                repeat_draw(original, copy)
        node.args, node.kwargs = torch.fx.map_arg((node.args, node.kwargs), lambda n: copies.get(n, n))


def _is_recomputed(node: Node) -> bool:
    """Return True if a checkpoint recomputes a forward node: one that no node outside of the region reads.

    Values that leave the region are saved, and the next region starts from them.
    """
    if _GATHER in node.meta:
        return True
    if node.meta.get("recompute") not in _RECOMPUTE or not _is_forward(node):
        return False
    region = node.meta.get("ac_graph_id")
    return all(user.meta.get("ac_graph_id") == region for user in node.users if _is_forward(user))


def _is_forward(node: Node) -> bool:
    return node.meta.get("partitioner_tag") == "is_forward"


def _recomputed_for(node: Node, copies: dict[Node, Node]) -> list[Node]:
    """Return the recomputed nodes without copies that a node reads, itself or through others of them, in order."""
    found: dict[Node, None] = {}

    def visit(one: Node) -> None:
        for operand in one.all_input_nodes:
            if _is_recomputed(operand) and operand not in copies and operand not in found:
                visit(operand)
                found[operand] = None

    visit(node)
    return list(found)


def _starts(nodes: list[Node]) -> list[Node]:
    found = dict.fromkeys(operand for node in nodes for operand in node.all_input_nodes)
    return [node for node in found if not _is_recomputed(node) and isinstance(node.meta.get("val"), torch.Tensor)]


def _hold(graph: Graph, user: Node, starts: list[Node], held: dict[Node, Node]) -> None:
    if not starts:
        return
    gradients = [n for n in user.all_input_nodes if n.meta.get("partitioner_tag") == "is_backward"][:1]
    values = [*starts, *gradients]
    barrier = graph.call_function(torch.ops.tpu_dynamo.optimization_barrier.default, (values,))
    barrier.meta["val"] = [value.meta["val"] for value in values]
    for i, start in enumerate(starts):
        held[start] = item = graph.call_function(operator.getitem, (barrier, i))
        item.meta["val"] = start.meta["val"]
