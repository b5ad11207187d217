"""Random numbers: every operator that draws gets a key of its own, and the keys are an argument of the program.

The caller draws the keys from PyTorch's generator for each call: numbers follow `torch.manual_seed`, differ from call
to call and are never frozen into a program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from ._torch_compat import FakeTensor, FakeTensorMode, fake_mode, run_and_save_rng_state, run_with_rng_state
from .choice import choose
from .table import Lowering

aten = torch.ops.aten

# Marks a draw that has its key before its arguments already: one that is repeated, or repeats another.
_KEYED = "tpu_dynamo_keyed"


def draw_key() -> torch.Tensor:
    """Mark the place of a key, an int64[1], in a graph until give_keys puts one there. Never called."""
    raise AssertionError("a mark in a graph, never called")


def replay_draws(graph: Graph) -> None:
    """Say in keys how the partitioner repeats a draw in the backward graph, in place.

    A forward operator that the backward recomputes comes as run_and_save_rng_state(operator, ...), which gives the
    generator's state and the result; the backward has run_with_rng_state(state, operator, ...). Here the operator's
    key is that state, so the forward graph's output and the backward's input are an int64[1] each.
    """
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if node.target is run_and_save_rng_state:
            with graph.inserting_before(node):
                key = graph.call_function(draw_key)
                key.meta["val"] = _key_value()
                result = _draw(graph, node, node.args[0], node.args[1:], key)
            for user in list(node.users):
                user.replace_all_uses_with((key, result)[user.args[1]])
                graph.erase_node(user)
            graph.erase_node(node)
        elif node.target is run_with_rng_state:
            key = node.all_input_nodes[0]
            key.meta["val"] = _key_value()
            with graph.inserting_before(node):
                result = _draw(graph, node, node.args[1], node.args[2:], key)
            node.replace_all_uses_with(result)
            graph.erase_node(node)


def repeat_draw(node: Node, copy: Node) -> None:
    """Let a copy of a node draw the numbers that the node draws, in place; nothing where it draws none."""
    if not is_draw(node):
        return
    if not is_keyed(node):
        with node.graph.inserting_before(node):
            key = node.graph.call_function(draw_key)
        key.meta["val"] = _key_value()
        node.args = (key, *node.args)
        node.meta[_KEYED] = True
        copy.args = (key, *copy.args)
    copy.meta[_KEYED] = True


def fold_into_draw(node: Node, fold: Callable[[Node], Node]) -> None:
    """Let an operator that draws do it from `fold(key)` instead of its key, in place; nothing where it draws none.

    fold: adds nodes before `node`, and returns one with a key like that which it is given.
    """
    if not is_draw(node):
        return
    with node.graph.inserting_before(node):
        if is_keyed(node):
            key, *rest = node.args
            assert isinstance(key, Node)
        else:
            key, rest = node.graph.call_function(draw_key), node.args
            key.meta["val"] = _key_value()
        node.args = (fold(key), *rest)
    node.meta[_KEYED] = True


def _key_value() -> torch.Tensor:
    with fake_mode():
        return torch.empty(1, dtype=torch.int64, device="cpu")


def _draw(graph: Graph, node: Node, target: Any, args: Any, key: Node) -> Node:
    """Insert a call of the operator itself, with its results' fake tensors, which the marking node does not have."""
    call = graph.call_function(target, (key, *args), dict(node.kwargs))
    call.meta.update({k: v for k, v in node.meta.items() if k != "val"})
    fakes = [torch.fx.map_arg(argument, lambda n: n.meta["val"]) for argument in args]
    modes = [fake.fake_mode for fake in fakes if isinstance(fake, FakeTensor)]
    with modes[0] if modes else fake_mode():
        call.meta["val"] = target(*fakes, **node.kwargs)
    call.meta[_KEYED] = True
    return call


def give_keys(graph_module: GraphModule, mode: FakeTensorMode) -> int:
    """Put a key before the arguments of every operator that draws, in place; return the number of keys.

    The keys become the graph's last placeholder, an int64 vector, if there are any.
    """
    graph = graph_module.graph
    draws = [node for node in graph.nodes if node.op == "call_function" and is_draw(node)]
    marks = graph.find_nodes(op="call_function", target=draw_key)
    keyless = [node for node in draws if not is_keyed(node)]
    slices = iter(_slice_keys(graph, mode, len(marks) + len(keyless)))
    for mark in marks:
        mark.replace_all_uses_with(next(slices))
        graph.erase_node(mark)
    for node in keyless:
        node.args = (next(slices), *node.args)
    return len(marks) + len(keyless)


def _slice_keys(graph: Graph, mode: FakeTensorMode, count: int) -> list[Node]:
    if not count:
        return []
    placeholders = graph.find_nodes(op="placeholder")
    with graph.inserting_before(placeholders[-1].next if placeholders else next(iter(graph.nodes))):
        keys = graph.placeholder("random_keys")
        slices = [graph.call_function(aten.slice.Tensor, (keys, 0, i, i + 1)) for i in range(count)]
    with mode:
        keys.meta["val"] = torch.empty(count, dtype=torch.int64, device="cpu")
        for node in slices:
            node.meta["val"] = torch.empty(1, dtype=torch.int64, device="cpu")
    return slices


def is_keyed(node: Node) -> bool:
    """Return True if a draw has its key already."""
    return _KEYED in node.meta


def mark_keyed(node: Node) -> None:
    """Say that a draw has its key, as its first argument, in place."""
    node.meta[_KEYED] = True


def is_draw(node: Node) -> bool:
    """Return True if a call draws random numbers."""
    if node.op != "call_function":
        return False
    lowering = choose(node)
    return isinstance(lowering, Lowering) and lowering.draws


def is_drawn(node: Node) -> bool:
    """Return True if a node's value depends on random numbers that it draws itself, or is a key for them."""
    return is_draw(node) or (node.op == "call_function" and node.target is draw_key)
