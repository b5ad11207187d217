"""Operators that only check: a program cannot raise, so they go, and so do the tokens that order them."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, Node

from ._torch_compat import invoke_subgraph, pytree, with_effects
from .subgraphs import subgraph

aten = torch.ops.aten

# Without them a program goes on with what the values are: nan from a singular matrix, a clamped index.
CHECKS = {
    aten._assert_async.default,
    aten._assert_async.msg,
    aten._assert_scalar.default,
    aten._assert_tensor_metadata.default,
    aten._linalg_check_errors.default,
    aten.sym_constrain_range.default,
    aten.sym_constrain_range_for_size.default,
}


_make_token = torch.ops.prims._make_token.default
_sink_tokens = torch.ops.prims._sink_tokens.default


def drop_checks(graph: Graph) -> None:
    """Erase the checks of a graph, in place, and of the graphs within it.

    AOTAutograd threads a token through those with effects: with_effects(token, operator, ...) gives (token,
    results...). The token is made by `_make_token` and ends in `_sink_tokens`, or it is an input and an output: then
    None is what AOTAutograd passes, and what it is given back.
    """
    tokens = {node.args[0] for node in graph.find_nodes(op="call_function", target=with_effects)}
    for node in reversed(graph.nodes):
        if node.op == "get_attr" and (inner := subgraph(node)) is not None:
            drop_checks(inner.graph)
        if node.op != "call_function":
            continue
        if node.target is _sink_tokens or (node.target in CHECKS | {_make_token} and not node.users):
            graph.erase_node(node)
        elif node.target is with_effects and node.args[1] in CHECKS:
            _pass_token_on(graph, node)
            graph.erase_node(node)
        elif node.target is with_effects and node.args[1] is invoke_subgraph:
            _call_plainly(graph, node)
    output = graph.output_node()

    def without_token(value: Node) -> Node | None:
        return None if value in tokens and value.op == "placeholder" else value

    output.args = pytree.tree_map_only(Node, without_token, output.args)


def _pass_token_on(graph: Graph, node: Node) -> None:
    """Let those that take a call's token take the one before it."""
    before: Any = node.args[0]
    for user in list(node.users):
        if user.args[1] == 0:
            user.replace_all_uses_with(before)
            graph.erase_node(user)


def _call_plainly(graph: Graph, node: Node) -> None:
    """Call a graph whose effects, all of them checks, are gone, without a token."""
    _pass_token_on(graph, node)
    _, target, *args = node.args
    node.target, node.args = target, tuple(args)  # pyright: ignore[reportAttributeAccessIssue]
    node.meta["val"] = node.meta["val"][1:]
    for user in list(node.users):
        index: Any = user.args[1]
        user.args = (node, index - 1)
