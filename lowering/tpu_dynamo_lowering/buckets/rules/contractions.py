"""Products and convolutions: where they sum over a padded dimension, both sides are zero in the padding."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from ..extents import NotProven, is_padded, only_leading
from ..values import Builder, Value
from .pointwise import item
from .table import Arguments, broadcast, rule

aten = torch.ops.aten


def _contracted(builder: Builder, left: Value, right: Value, dims: tuple[int, int]) -> tuple[Value, Value]:
    """Return both sides of a sum over one dimension of each. Zero on one side would not do: nan times zero is nan."""
    a, b = left.extents[dims[0]], right.extents[dims[1]]
    if a != b:
        raise NotProven("it sums products of elements that lie in different places")
    return builder.hidden(left, [dims[0]]), builder.hidden(right, [dims[1]])


@rule(aten.mm.default, aten.bmm.default)
def mm(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Multiply matrices."""
    left, right = arguments["self"], arguments["mat2"]
    batch = broadcast([Value(v.node, v.extents[:-2]) for v in (left, right)])
    extents = (*batch, left.extents[-2], right.extents[-1])
    left, right = _contracted(builder, left, right, (-1, -2))
    return Value(builder.again(node, arguments, self=left, mat2=right), extents)


def _named(node: Node) -> tuple[str, str]:
    if node.target is aten.baddbmm.default:
        return "batch1", "batch2"
    return ("mat", "vec") if node.target is aten.addmv.default else ("mat1", "mat2")


@rule(aten.addmm.default, aten.baddbmm.default, aten.addmv.default)
def addmm(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Multiply and add."""
    first, second = _named(node)
    left, right = arguments[first], arguments[second]
    vector = second == "vec"
    batch = left.extents[:-2]
    product = (*batch, left.extents[-2], *(() if vector else right.extents[-1:]))
    extents = broadcast([Value(left.node, product), arguments["self"]])
    left, right = _contracted(builder, left, right, (-1, -1 if vector else -2))
    factors: dict[str, Any] = {first: left, second: right}
    return Value(builder.again(node, arguments, **factors), extents)


@rule(aten.mv.default, aten.dot.default, aten.vdot.default)
def mv(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Multiply by a vector."""
    name = "vec" if node.target is aten.mv.default else "tensor" if node.target is aten.dot.default else "other"
    left, right = _contracted(builder, arguments["self"], arguments[name], (-1, -1))
    factors: dict[str, Any] = {"self": left, name: right}
    return Value(builder.again(node, arguments, **factors), left.extents[:-1])


def _spatial(value: Value) -> list[int]:
    return list(range(2, value.ndim))


def _require_leading(value: Value) -> None:
    if not all(only_leading(value.extents[d]) for d in _spatial(value)):
        raise NotProven("an image of it does not begin with the true elements")


@rule(aten.convolution.default)
def convolution(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Convolve what has zeros behind the true elements, as the operator's own padding is."""
    value, weight = arguments["input"], arguments["weight"]
    if weight.padded or is_padded(value.extents[1]):
        raise NotProven("its weight or the channels are padded")
    _require_leading(value)
    true = builder.shape(node.meta["val"])
    spatial = [builder.leading(size) for size in true[2:]]
    extents = (value.extents[0], builder.leading(true[1]), *spatial)
    return Value(builder.again(node, arguments, input=builder.hidden(value, _spatial(value))), extents)


@rule(aten.convolution_backward.default)
def convolution_backward(builder: Builder, node: Node, arguments: Arguments) -> list[Value | None]:
    """Give the gradients of an image, whose padding has none, and of weights, to which padding adds none."""
    grad, value, weight = (arguments[name] for name in ("grad_output", "input", "weight"))
    if weight.padded or is_padded(value.extents[1]):
        raise NotProven("its weight or the channels are padded")
    _require_leading(value)
    _require_leading(grad)
    hidden: dict[str, Any] = {
        "grad_output": builder.hidden(grad, grad.padded),
        "input": builder.hidden(value, value.padded),
    }
    call = builder.again(node, arguments, **hidden)
    results: list[Any] = node.meta["val"]
    extents = [value.extents, weight.extents, weight.extents[:1]]
    if arguments["transposed"] and results[2] is not None:
        extents[2] = builder.extents(results[2])
    return [
        Value(item(builder, call, i), extents[i]) if isinstance(result, torch.Tensor) else None
        for i, result in enumerate(results)
    ]
