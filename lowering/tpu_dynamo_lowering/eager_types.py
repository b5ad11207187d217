"""Results whose dtype in eager PyTorch is another than its fake tensors, and so the graph, say."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ._torch_compat import FakeTensorMode
from .errors import tensors_of

aten = torch.ops.aten


def _promoted(node: Node) -> torch.dtype:
    """Return the dtype to which the tensors that a node takes are promoted."""
    first, second = (tensors_of(given)[0] for given in node.args[:2] if isinstance(given, Node))
    return torch.promote_types(first.dtype, second.dtype)


def _of_self(node: Node) -> torch.dtype:
    """Return the dtype of the second argument; the first is the gradient."""
    given = node.args[1]
    assert isinstance(given, Node)
    return tensors_of(given)[0].dtype


# The gradient and the values that it belongs to may differ in dtype where the operators are called by hand.
_DTYPES: dict[object, Callable[[Node], torch.dtype]] = {
    aten.threshold_backward.default: _promoted,
    aten.mish_backward.default: _of_self,
    aten.mse_loss_backward.default: _of_self,
    aten.smooth_l1_loss_backward.default: _of_self,
    aten.soft_margin_loss_backward.default: _of_self,
}


def cast_as_eager(graph_module: GraphModule, mode: FakeTensorMode) -> None:
    """Cast, in place, those outputs of a graph that have another dtype in eager PyTorch."""
    output = graph_module.graph.output_node()
    for node in output.all_input_nodes:
        dtype = _eager_dtype(node)
        value: Any = node.meta.get("val")
        if dtype is None or value.dtype == dtype:
            continue
        with graph_module.graph.inserting_before(output), mode:
            cast = graph_module.graph.call_function(aten._to_copy.default, (node,), {"dtype": dtype})
            cast.meta.update({k: v for k, v in node.meta.items() if k != "val"}, val=value.to(dtype))
        output.replace_input_with(node, cast)


def _eager_dtype(node: Node) -> torch.dtype | None:
    if node.target in _DTYPES:
        return _DTYPES[node.target](node)
    # A mask of no elements is one in the values' own dtype.
    if node.target is operator.getitem and node.args[1] == 1:
        dropout = node.args[0]
        if isinstance(dropout, Node) and dropout.target is aten.native_dropout.default and not node.meta["val"].numel():
            return tensors_of(dropout)[0].dtype
    if node.target is operator.getitem:
        return _of_token_scales(node.args[0])
    return None


def _of_token_scales(node: Any) -> torch.dtype | None:
    """Return the dtype of scales and zero points by `choose_qparams_per_token`; None for another node."""
    # By name: torch defines the operator when torch.ao's quantisation is imported.
    if str(node.target) != "quantized_decomposed.choose_qparams_per_token.default":
        return None
    dtype = tensors_of(node.args[0])[0].dtype
    return torch.float32 if dtype == torch.float16 else dtype
