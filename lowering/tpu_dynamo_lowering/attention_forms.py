"""Attention in its plainest form: causal and empty masks by name, and heads of keys that are shared, not repeated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.fx import Graph, Node

from ._torch_compat import OpOverload

aten = torch.ops.aten

# The operators that both passes know, by the names in their schemas.
_FORWARD = {"aten::_scaled_dot_product_flash_attention_for_cpu", "tpu_dynamo::attention"}
_BACKWARD = {"aten::_scaled_dot_product_flash_attention_for_cpu_backward", "tpu_dynamo::attention_backward"}
_RESHAPES = {aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.clone.default}


def name_masks(graph: Graph, values: Mapping[Node, torch.Tensor]) -> None:
    """Say `is_causal`, or no mask, in place of an attention's mask that is known to mean that.

    values: the tensors that depend on no input. A mask means it where it adds zero, or is True, for what is seen, and
    adds -inf, or is False, for the rest.
    """
    for node in graph.nodes:
        if _schema_name(node) not in _FORWARD | _BACKWARD or _argument(node, "is_causal"):
            continue
        mask = _argument(node, "attn_mask")
        seen = _seen(values[mask]) if mask in values else None
        if seen is None:
            continue
        if bool(seen.all()):
            _set_argument(node, "attn_mask", None)
        elif torch.equal(seen, torch.ones_like(seen).tril()):
            _set_argument(node, "attn_mask", None)
            _set_argument(node, "is_causal", True)


def _seen(mask: torch.Tensor) -> torch.Tensor | None:
    """Return True for what a mask shows and False for what it hides; None for a mask that does anything else."""
    if mask.ndim < 2 or mask.dtype == torch.bool:
        return mask if mask.ndim >= 2 else None
    seen = mask == 0
    return seen if bool((seen | (mask == -torch.inf)).all()) else None


def share_heads(graph: Graph) -> None:
    """Give attention the heads of keys and values that a graph repeats for it, in place: queries share them."""
    for node in graph.nodes:
        if _schema_name(node) not in _FORWARD:
            continue
        key, value = (_argument(node, name) for name in ("key", "value"))
        shared = [_before_repeating(key), _before_repeating(value)]
        if len({each.meta["val"].shape[1] for each in shared if each is not None}) == 1 and None not in shared:
            _set_argument(node, "key", shared[0])
            _set_argument(node, "value", shared[1])


def _before_repeating(node: Node) -> Node | None:
    """Return the [batch, heads, length, features] of which `node` has each head several times in a row, or None."""
    batch, heads, length, features = node.meta["val"].shape
    while node.target in _RESHAPES:
        node = node.all_input_nodes[0]
    if node.target is not aten.expand.default:
        return None
    expanded, source = tuple(node.meta["val"].shape), node.all_input_nodes[0]
    shape = source.meta["val"].shape
    if len(shape) != 5 or heads % shape[1] or shape != (batch, shape[1], 1, length, features):
        return None
    while source.target is aten.slice.Tensor and source.all_input_nodes[0].meta["val"].shape == shape:
        source = source.all_input_nodes[0]
    if (
        expanded != (batch, shape[1], heads // shape[1], length, features)
        or source.target is not aten.unsqueeze.default
    ):
        return None
    return source.all_input_nodes[0] if source.args[1] in (2, -3) else None


def _schema_name(node: Node) -> str | None:
    return node.target._schema.name if isinstance(node.target, OpOverload) else None


def _position(node: Node, name: str) -> int:
    assert isinstance(node.target, OpOverload)
    return [argument.name for argument in node.target._schema.arguments].index(name)


def _argument(node: Node, name: str) -> Any:
    """Return an argument of a call by its name in the schema, its default where the call has none."""
    assert isinstance(node.target, OpOverload)
    position = _position(node, name)
    if position < len(node.args):
        return node.args[position]
    return node.kwargs.get(name, node.target._schema.arguments[position].default_value)


def _set_argument(node: Node, name: str, value: Any) -> None:
    assert isinstance(node.target, OpOverload)
    position, schema = _position(node, name), node.target._schema.arguments
    if position < len(node.args):
        node.update_arg(position, value)
    elif schema[position].kwarg_only:
        node.update_kwarg(name, value)
    else:
        defaults = [argument.default_value for argument in schema[len(node.args) : position]]
        node.args = (*node.args, *defaults, value)
