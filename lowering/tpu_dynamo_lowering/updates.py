"""Writes to a graph's inputs: taken out of the graph as results, and given their inputs' memory where that can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.fx import Graph, Node

from .program import Argument, TensorSpec, Update

_copy = torch.ops.aten.copy_.default


def written_values(graph: Graph) -> list[Node]:
    """Return what a graph of AOTAutograd's writes to its inputs."""
    return [node.args[1] for node in graph.find_nodes(op="call_function", target=_copy)]


def take_writes(graph: Graph) -> list[tuple[int, Node]]:
    """Erase the `copy_`s to inputs with which AOTAutograd ends a graph, in place; return positions and values."""
    positions = {node: i for i, node in enumerate(graph.find_nodes(op="placeholder"))}
    writes: dict[int, Node] = {}
    for node in graph.find_nodes(op="call_function", target=_copy):
        target, value = node.args[:2]
        assert target in positions and isinstance(value, Node), f"{node.format_node()} writes to no input"
        writes[positions[target]] = value
        node.replace_all_uses_with(value)
        graph.erase_node(node)
    return list(writes.items())


def donate(updates: Sequence[Update], arguments: Sequence[Argument], results: Sequence[TensorSpec]) -> list[Update]:
    """Return the updates, each with the argument whose memory its result may take."""
    numbers = {argument.position: i for i, argument in enumerate(arguments)}

    def argument_for(update: Update) -> int | None:
        number = numbers.get(update.position)
        if number is None:
            return None
        spec, result = arguments[number].spec, results[update.result]
        same = (spec.physical_shape, spec.dtype) == (result.physical_shape, result.dtype)
        return number if same else None

    return [replace(update, argument=argument_for(update)) for update in updates]
