"""Operators that only check: a program cannot raise, so they go, and so do the tokens that order them."""

from __future__ import annotations

import torch
from torch.fx import Graph, Node
from torch.utils import _pytree as pytree

from ._torch_compat import with_effects

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


def drop_checks(graph: Graph) -> None:
    """Erase the checks of a graph, in place.

    AOTAutograd threads a token through those with effects: with_effects(token, operator, ...) gives (token,
    results...). It passes None for a graph's token and ignores what comes back, so None is what is given back.
    """
    tokens = {node.args[0] for node in graph.find_nodes(op="call_function", target=with_effects)}
    for node in reversed(graph.nodes):
        if node.op != "call_function":
            continue
        if node.target in CHECKS and not node.users:
            graph.erase_node(node)
        elif node.target is with_effects and node.args[1] in CHECKS:
            for user in list(node.users):
                user.replace_all_uses_with(node.args[0])
                graph.erase_node(user)
            graph.erase_node(node)
    output = graph.output_node()

    def without_token(value: Node) -> Node | None:
        return None if value in tokens and value.op == "placeholder" else value

    output.args = pytree.tree_map_only(Node, without_token, output.args)
