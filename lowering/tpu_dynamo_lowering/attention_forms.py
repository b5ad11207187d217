"""Attention in its plainest form: masks said in words, and heads of keys that are shared, not repeated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.fx import Graph, Node

from ._torch_compat import FakeTensorMode, OpOverload
from .attention_operators import ATTENTION, ATTENTION_BACKWARD
from .mask_reading import boolean_of, read_mask

aten = torch.ops.aten

# The operators that both passes know, by the names in their schemas.
_FORWARD = {"aten::_scaled_dot_product_flash_attention_for_cpu", "tpu_dynamo::attention"}
_NAMED = {"tpu_dynamo_lowering::attention"}
_BACKWARD = {"aten::_scaled_dot_product_flash_attention_for_cpu_backward", "tpu_dynamo::attention_backward"}
_RESHAPES = {aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.clone.default}


def name_masks(graph: Graph, values: Mapping[Node, torch.Tensor], mode: FakeTensorMode) -> None:
    """Say what an attention's mask means in place of the mask: nothing, `is_causal`, a window of keys, or segments.

    values: the tensors that depend on no input. A mask shows what it adds zero for, or is True for, and hides what it
    adds -inf for, or is False for.
    """
    for node in list(graph.nodes):
        if _schema_name(node) not in _FORWARD | _BACKWARD or _argument(node, "is_causal"):
            continue
        mask = _argument(node, "attn_mask")
        if mask is None or _argument(node, "query").meta["val"].ndim != 4:
            continue
        queries, keys = (_argument(node, name).meta["val"].shape[-2] for name in ("query", "key"))
        visible = read_mask(mask, values, queries, keys)
        band = visible.band(keys) if visible is not None else None
        if visible is None or band is None or visible.shown is not None:
            continue
        if visible.segments is None and band in ((None, None), (None, 0)):
            _set_argument(node, "attn_mask", None)
            _set_argument(node, "is_causal", band == (None, 0))
        elif not _argument(node, "dropout_p"):
            _name_window(node, band, visible.segments, mode)


def _name_window(
    node: Node, band: tuple[int | None, int | None], segments: tuple[Node, Node] | None, mode: FakeTensorMode
) -> None:
    """Put an operator that says the mask in the place of an attention."""
    graph = node.graph
    backward = _schema_name(node) in _BACKWARD
    names = ("grad_out", "query", "key", "value", "out", "logsumexp") if backward else ("query", "key", "value")
    given = [_argument(node, name) for name in names]
    with graph.inserting_before(node):
        rows = [_rows(graph, each, mode) for each in segments] if segments is not None else [None, None]
        target = ATTENTION_BACKWARD if backward else ATTENTION
        named = graph.call_function(target, (*given, _argument(node, "scale"), *band, *rows))
    named.meta.update(node.meta)
    node.replace_all_uses_with(named)
    graph.erase_node(node)


def _rows(graph: Graph, node: Node, mode: FakeTensorMode) -> Node:
    """Return [batch, length] of what is [batch, 1, length, 1] or [batch, 1, 1, length], or without first dimensions."""
    value = node.meta["val"]
    rows = graph.call_function(aten.reshape.default, (node, [-1, max(value.shape[-2:])]))
    with mode:
        rows.meta["val"] = value.reshape(-1, max(value.shape[-2:]))
    rows.meta.update({key: each for key, each in node.meta.items() if key == "stack_trace"})
    return rows


def show_masks(graph: Graph, values: Mapping[Node, torch.Tensor]) -> None:
    """Give attention the boolean masks of which PyTorch made what it adds to scores on CPUs: zeros and -inf, in place.

    values: as for `name_masks`. A kernel tells by a boolean mask what it need not read.
    """
    for node in graph.nodes:
        if _schema_name(node) not in _FORWARD | _BACKWARD:
            continue
        mask = _argument(node, "attn_mask")
        if mask is not None and (shown := boolean_of(mask, values)) is not None:
            _set_argument(node, "attn_mask", shown)


def share_heads(graph: Graph) -> None:
    """Give attention the heads of keys and values that a graph repeats for it, in place: queries share them."""
    for node in graph.nodes:
        if _schema_name(node) not in _FORWARD | _NAMED:
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


def _position(node: Node, name: str) -> int | None:
    assert isinstance(node.target, OpOverload)
    names = [argument.name for argument in node.target._schema.arguments]
    return names.index(name) if name in names else None


def _argument(node: Node, name: str) -> Any:
    """Return an argument of a call by its name in the schema, its default where the call has none, None without it."""
    assert isinstance(node.target, OpOverload)
    position = _position(node, name)
    if position is None:
        return None
    if position < len(node.args):
        return node.args[position]
    return node.kwargs.get(name, node.target._schema.arguments[position].default_value)


def _set_argument(node: Node, name: str, value: Any) -> None:
    assert isinstance(node.target, OpOverload)
    position, schema = _position(node, name), node.target._schema.arguments
    assert position is not None
    if position < len(node.args):
        node.update_arg(position, value)
    elif schema[position].kwarg_only:
        node.update_kwarg(name, value)
    else:
        defaults = [argument.default_value for argument in schema[len(node.args) : position]]
        node.args = (*node.args, *defaults, value)
