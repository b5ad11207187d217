"""as_strided of views: read from, or written to, the tensor whose memory they view."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Graph, Node

from ._torch_compat import FakeTensorMode, OpOverload, is_view
from .inline import ORIGIN
from .layouts import dense_order

aten = torch.ops.aten

_READS = (aten.as_strided.default, aten.as_strided_copy.default)
_WRITES = aten.as_strided_scatter.default


def find_bases(graph: Graph, mode: FakeTensorMode) -> dict[Node, str]:
    """Give every as_strided of a graph, in place, a dense tensor that holds what it reaches; offsets count from there.

    Such a tensor is the operand itself or one that it is a view of. Returns the calls for which the graph has none,
    each with the reason: an operand that enters the graph as a view of something larger, for one.
    """
    refused = {}
    for node in [node for node in graph.nodes if node.target in (*_READS, _WRITES)]:
        source, given = node.all_input_nodes[0], _given_offset(node)
        size, stride, *_ = node.args[2 if node.target is _WRITES else 1 :]
        own = _offset(source)
        # Counted from the operand's first element; unknown where that may lie anywhere in its storage.
        start = 0 if given is None or not all(size) else None if own is None else given - own
        found = _holder(source, start, _reach(size, stride)) if start is not None else None
        if start is None or found is None:
            refused[node] = (
                "it reaches memory of which the graph holds no tensor: before, behind or between the elements of an "
                "input, which may itself be a view"
            )
            continue
        base, before = found
        places = (size, stride, before + start)
        if node.target is _WRITES:
            _scatter(node, base, before, places, mode)
        else:
            node.args, node.kwargs = (base, *places), {}
    return refused


def storage_offsets(graph: Graph) -> dict[int, int]:
    """Return the storage offsets that inputs must have, because as_strided calls of the graph count from them.

    The keys are the positions of inputs. Calls without an offset count from their operand, wherever it begins.
    """
    positions = {node: i for i, node in enumerate(graph.find_nodes(op="placeholder"))}
    found = {}
    for node in graph.nodes:
        if node.target not in (*_READS, _WRITES) or _given_offset(node) is None:
            continue
        root = node.all_input_nodes[0]
        while (viewed := _viewed(root)) is not None:
            root = viewed
        if root in positions and (offset := _offset(root)) is not None:
            found[positions[root]] = offset
    return found


def _given_offset(node: Node) -> Any:
    """Return the offset that a call passes, None where it passes none."""
    offset = node.args[4 if node.target is _WRITES else 3 :]
    return offset[0] if offset else node.kwargs.get("storage_offset")


def _viewed(node: Node) -> Node | None:
    """Return the node that a node is a view of, None for one that is no view."""
    # A part of what split, chunk or unbind gives is a view of what they take.
    call = node.all_input_nodes[0] if node.target is operator.getitem else node
    return call.all_input_nodes[0] if is_view(call) else None


def _reach(size: Sequence[int], stride: Sequence[int]) -> int:
    """Count the elements of memory that a strided view spans."""
    return 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if all(size) else 0


def _holder(node: Node, start: int, count: int) -> tuple[Node, int] | None:
    """Find the nearest dense tensor that has all of `count` elements of memory: a view, or what it is a view of.

    start: the first of them, counted from the view's first element. Returns the tensor and the view's offset in it,
    or None where there is no such tensor.
    """
    first = _offset(node)
    before: int | None = 0
    while before is not None:
        value = node.meta["val"]
        whole = dense_order(value.shape, value.stride()) is not None
        if whole and (not count or 0 <= before + start <= before + start + count <= value.numel()):
            return node, before
        if (viewed := _viewed(node)) is None:
            break
        node, own = viewed, _offset(viewed)
        before = None if first is None or own is None else first - own
    return None


def _offset(node: Node) -> int | None:
    """Return a tensor's offset in its storage, in elements; None where it is not known."""
    return node.meta["storage_offset"] if "storage_offset" in node.meta else int(node.meta["val"].storage_offset())


def _scatter(node: Node, base: Node, before: int, places: tuple[Any, ...], mode: FakeTensorMode) -> None:
    """Write to the base's memory as a vector, and view the operand, which begins at `before`, in what comes of it."""
    operands: Any = node.args
    source, written, *_ = operands
    held, operand = base.meta["val"], source.meta["val"]
    order = dense_order(held.shape, held.stride())
    assert order is not None
    graph = node.graph

    def call(target: OpOverload, *args: Any) -> Node:
        result = graph.call_function(target, args)
        result.meta.update({k: v for k, v in node.meta.items() if k in ORIGIN})
        with mode:
            result.meta["val"] = target(*torch.fx.map_arg(args, lambda argument: argument.meta["val"]))
        return result

    with graph.inserting_before(node):
        memory = call(aten.view.default, call(aten.permute.default, base, list(order)), [-1])
        changed = call(_WRITES, memory, written, *places)
        result = call(aten.as_strided.default, changed, list(operand.shape), list(operand.stride()), before)
    node.replace_all_uses_with(result)
    graph.erase_node(node)
