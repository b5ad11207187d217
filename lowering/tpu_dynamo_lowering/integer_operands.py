"""Operands of products that a graph dequantises, as integers, scales and zero points."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.fx import Graph, Node

from ._torch_compat import FakeTensorMode, OpOverload
from .inserted_calls import insert_call
from .quantised_tensors import DEQUANTIZE

aten = torch.ops.aten

_VIEWS = {aten.view.default, aten._unsafe_view.default, aten.expand.default, aten.unsqueeze.default}
_MOVES = {aten.permute.default, aten.transpose.int, aten.t.default}
_INTEGERS = (torch.int8, torch.uint8)


class Integers(NamedTuple):
    """A tensor as (value - zero_point) * scale.

    value: int8 or uint8. scale, zero_point: numbers, tensors of one element, or tensors with the dimensions of `value`,
    of size 1 where they are the same all along; a zero point of 0 is the number. dtype: the tensor's own.
    """

    value: Node
    scale: Any
    zero_point: Any
    dtype: torch.dtype


def integers_of(graph: Graph, node: Any, mode: FakeTensorMode) -> Integers | None:
    """Return a node's tensor as integers where the graph dequantises it, before views of it; None for others.

    Views of the integers are inserted where the graph's cursor is.
    """
    if not isinstance(node, Node) or not isinstance(node.target, OpOverload):
        return None
    if node.target.namespace == "quantized_decomposed" or node.target in DEQUANTIZE:
        return _dequantised(graph, node, mode)
    if node.target is aten.clone.default:
        return integers_of(graph, node.args[0], mode)
    if node.target not in _VIEWS | _MOVES:
        return None
    found = integers_of(graph, node.args[0], mode)
    if found is None or (node.target in _VIEWS and not all(map(_is_one, (found.scale, found.zero_point)))):
        return None
    rest = node.args[1:]
    if node.target in (aten.view.default, aten._unsafe_view.default):
        return found._replace(value=_viewed(graph, node, found.value, mode))
    scale, zero_point = (
        each if _is_one(each) else insert_call(graph, node, mode, node.target, each, *rest)
        for each in (found.scale, found.zero_point)
    )
    value = insert_call(graph, node, mode, node.target, found.value, *rest)
    return Integers(value, scale, zero_point, found.dtype)


def _viewed(graph: Graph, origin: Node, value: Node, mode: FakeTensorMode) -> Node:
    """Insert a view of the shape of the node `origin`, which need not be possible without a copy."""
    shape = list(origin.meta["val"].shape)
    view = graph.call_function(aten.view.default, (value, shape))
    view.meta = dict(origin.meta)
    with mode:
        view.meta["val"] = value.meta["val"].reshape(shape)
    return view


def _is_one(each: Any) -> bool:
    """Tell whether a scale or zero point is one for the whole tensor."""
    return not isinstance(each, Node) or each.meta["val"].numel() == 1


def _dequantised(graph: Graph, node: Node, mode: FakeTensorMode) -> Integers | None:
    """Return what a node dequantises; None for another operator, and for integers of other dtypes."""
    assert isinstance(node.target, OpOverload)
    name = node.target._schema.name.partition("::")[2]
    arguments: Any = node.args
    value = arguments[0]
    if value.meta["val"].dtype not in _INTEGERS:
        return None
    dtype = node.meta["val"].dtype
    if name in ("dequantize", "dequantize_per_tensor", "dequantize_per_token"):
        scale, zero_point = arguments[1:3]
    elif name == "dequantize_per_channel":
        shape = [1] * value.meta["val"].ndim
        shape[arguments[3]] = -1
        scale, zero_point = (
            each if each is None or is_zero(each) else insert_call(graph, node, mode, aten.view.default, each, shape)
            for each in arguments[1:3]
        )
    else:
        return None
    ends = torch.iinfo(value.meta["val"].dtype)
    if isinstance(zero_point, int) and not ends.min <= zero_point <= ends.max:
        return None
    return Integers(value, scale, 0 if is_zero(zero_point) else zero_point, dtype)


def is_zero(zero_point: Any) -> bool:
    """Tell whether a zero point is known to be 0, or is left out."""
    if not isinstance(zero_point, Node):
        return not zero_point
    source: Any = zero_point
    if source.op == "get_attr":
        held = source.graph.owning_module and getattr(source.graph.owning_module, source.target, None)
        return isinstance(held, torch.Tensor) and not bool(held.any())
    # Symmetric grids that are chosen have no zero point, but for uint8.
    chosen: Any = source.args[0] if source.args else None
    if isinstance(chosen, Node) and source.args[1:] == (1,):
        name = getattr(getattr(chosen.target, "_schema", None), "name", "")
        symmetric = ("choose_qparams_symmetric", "choose_qparams_per_token")
        return name.partition("::")[2] in symmetric and chosen.args[-1] == torch.int8
    return False
