"""Losses: what is in the padding counts neither in the sum nor in the number that it is divided by."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from ..extents import NotProven
from ..values import Builder, Value
from .pointwise import item
from .reductions import cast, count_of, mean_of
from .table import Arguments, broadcast, rule

aten = torch.ops.aten

_NONE, _MEAN, _SUM = range(3)


def _ignored(builder: Builder, arguments: Arguments) -> dict[str, Any]:
    """Return the arguments of a negative log-likelihood with targets in the padding that it ignores."""
    value, target = arguments["self"], arguments["target"]
    axis = min(value.ndim - 1, 1)
    samples = (*value.extents[:axis], *value.extents[axis + 1 :])
    if samples != target.extents:
        raise NotProven("true elements of its inputs lie in different places")
    ignored = builder.hidden(target, target.padded, arguments["ignore_index"])
    return {"self": builder.hidden(value, value.padded), "target": ignored}


@rule(aten.nll_loss_forward.default, aten.nll_loss2d_forward.default)
def nll_loss(builder: Builder, node: Node, arguments: Arguments) -> list[Value | None]:
    """Compute it with targets in the padding ignored, as those that the operator is told to ignore."""
    call = builder.again(node, arguments, **_ignored(builder, arguments))
    extents = arguments["target"].extents if arguments["reduction"] == _NONE else ()
    return [Value(item(builder, call, 0), extents), Value(item(builder, call, 1), ())]


@rule(aten.nll_loss_backward.default, aten.nll_loss2d_backward.default)
def nll_loss_backward(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Give the gradient, which is zero for targets in the padding."""
    return Value(builder.again(node, arguments, **_ignored(builder, arguments)), arguments["self"].extents)


@rule(
    aten.mse_loss.default, aten.smooth_l1_loss.default, aten.huber_loss.default, aten.binary_cross_entropy.default,
    aten.binary_cross_entropy_with_logits.default, aten.soft_margin_loss.default,
)  # fmt: skip
def elementwise_loss(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Take the mean or the sum of the true elements' losses."""
    tensors = [v for v in arguments.values() if isinstance(v, Value)]
    each = Value(builder.again(node, arguments, reduction=_NONE), broadcast(tensors))
    reduction = arguments.get("reduction", _MEAN)
    dims = list(range(each.ndim))
    if reduction == _NONE:
        return each
    if reduction == _SUM:
        return Value(builder.call(aten.sum.default, builder.hidden(each, dims).node), ())
    return Value(cast(builder, mean_of(builder, each, dims, keep=False).node, each.fake.dtype), ())


@rule(
    aten.mse_loss_backward.default, aten.smooth_l1_loss_backward.default, aten.huber_loss_backward.default,
    aten.binary_cross_entropy_backward.default, aten.soft_margin_loss_backward.default,
)  # fmt: skip
def elementwise_loss_backward(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Give the gradient of the sum, divided by the number of true elements where the loss is their mean."""
    tensors = [v for v in arguments.values() if isinstance(v, Value)]
    extents = broadcast(tensors)
    if arguments.get("reduction", _MEAN) != _MEAN:
        return Value(builder.again(node, arguments), extents)
    gradient = builder.again(node, arguments, reduction=_SUM)
    count = builder.counted(count_of(Value(gradient, extents), range(len(extents))), gradient.meta["val"].dtype)
    return Value(builder.call(aten.div.Tensor, gradient, count), extents)
