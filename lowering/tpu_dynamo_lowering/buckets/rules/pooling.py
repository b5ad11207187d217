"""Pooling and resizing of images with padding behind the true rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy
import torch
from torch.fx import Node

from ..extents import Extent, NotProven, is_padded, only_leading
from ..values import Builder, Value
from .pointwise import item
from .reductions import cast, least, mean_of
from .table import Arguments, rule

aten = torch.ops.aten


def _image(value: Value, rank: int) -> list[int]:
    """Return the last `rank` dimensions. Raises NotProven where they do not begin with the true elements."""
    dims = list(range(value.ndim - rank, value.ndim))
    if not all(only_leading(value.extents[d]) for d in dims):
        raise NotProven("an image of it does not begin with the true elements")
    return dims


def _pooled(builder: Builder, value: Value, result: torch.Tensor, rank: int) -> tuple[Extent, ...]:
    true = builder.shape(result)[-rank:]
    return (*value.extents[:-rank], *map(builder.leading, true))


def _renumbered(builder: Builder, places: Node, before: Sequence[Node | int], after: Sequence[Node | int]) -> Node:
    """Return row-major places in an image of one size as places in an image of another."""

    def with_number(target: str, left: Node, right: Node | int) -> Node:
        packet = getattr(aten, target)
        return builder.call(packet.Tensor if isinstance(right, torch.fx.Node) else packet.Scalar, left, right)

    def divided(left: Node, right: Node | int) -> Node:
        overload = aten.div.Tensor_mode if isinstance(right, torch.fx.Node) else aten.div.Scalar_mode
        return builder.call(overload, left, right, rounding_mode="floor")

    digits: list[Node] = []
    for size in reversed(before[1:]):
        digits.append(with_number("remainder", places, size))
        places = divided(places, size)
    for size, digit in zip(after[1:], reversed(digits), strict=True):
        places = builder.call(aten.add.Tensor, with_number("mul", places, size), digit)
    return places


def _sizes(builder: Builder, value: Value, dims: Sequence[int]) -> tuple[list[Node | int], list[Node | int]]:
    """Return the true sizes of an image and its padded ones."""
    true = builder.shape_of(value)
    return (
        [builder.counted(true[d]) if is_padded(value.extents[d]) else int(true[d]) for d in dims],
        [int(value.fake.shape[d]) for d in dims],
    )


@rule(aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default)
def max_pool(builder: Builder, node: Node, arguments: Arguments) -> list[Value | None]:
    """Take maxima of true elements; their places are numbered as in the true image."""
    value, rank = arguments["self"], 2 if node.target is aten.max_pool2d_with_indices.default else 3
    dims = _image(value, rank)
    extents = _pooled(builder, value, node.meta["val"][0], rank)
    hidden = builder.hidden(value, dims, least(value.fake.dtype))
    call = builder.again(node, arguments, self=hidden)
    true, padded = _sizes(builder, value, dims)
    places = _renumbered(builder, item(builder, call, 1), padded, true)
    return [Value(item(builder, call, 0), extents), Value(places, extents)]


@rule(aten.max_pool2d_with_indices_backward.default, aten.max_pool3d_with_indices_backward.default)
def max_pool_backward(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Give the gradient at the maxima, whose places are numbered as in the true image."""
    value = arguments["self"]
    rank = 2 if node.target is aten.max_pool2d_with_indices_backward.default else 3
    dims = _image(value, rank)
    true, padded = _sizes(builder, value, dims)
    places = Value(_renumbered(builder, arguments["indices"].node, true, padded), arguments["indices"].extents)
    grad = arguments["grad_output"]
    hidden: dict[str, Any] = {
        "grad_output": builder.hidden(grad, grad.padded),
        "indices": builder.hidden(places, places.padded),
    }
    inputs = builder.hidden(value, dims, least(value.fake.dtype))
    return Value(builder.again(node, arguments, self=inputs, **hidden), value.extents)


def _require_fixed_divisor(arguments: Arguments) -> None:
    """Raise NotProven where a window at the edge is divided by the number of its elements inside."""
    inside = not arguments.get("count_include_pad", True) and any(arguments.get("padding", ()))
    if arguments.get("divisor_override") is None and (inside or arguments.get("ceil_mode", False)):
        raise NotProven("windows at the edge of an image are divided by other numbers")


@rule(aten.avg_pool2d.default, aten.avg_pool3d.default)
def average_pool(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Take averages with zeros behind the true elements."""
    value, rank = arguments["self"], 2 if node.target is aten.avg_pool2d.default else 3
    _require_fixed_divisor(arguments)
    hidden = builder.hidden(value, _image(value, rank))
    return Value(builder.again(node, arguments, self=hidden), _pooled(builder, value, node.meta["val"], rank))


@rule(aten.avg_pool2d_backward.default, aten.avg_pool3d_backward.default)
def average_pool_backward(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Give each window's gradient to its elements; there are none in the padding."""
    _require_fixed_divisor(arguments)
    grad, value = arguments["grad_output"], arguments["self"]
    _image(value, 2 if node.target is aten.avg_pool2d_backward.default else 3)
    return Value(builder.again(node, arguments, grad_output=builder.hidden(grad, grad.padded)), value.extents)


@rule(aten._adaptive_avg_pool2d.default, aten._adaptive_avg_pool3d.default)
def adaptive_average_pool(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Average the whole true image; parts of it depend on its size."""
    value, size = arguments["self"], arguments["output_size"]
    dims = list(range(value.ndim - len(size), value.ndim))
    if not any(is_padded(value.extents[d]) for d in dims):
        found = builder.extents(node.meta["val"])[-len(size) :]
        return Value(builder.again(node, arguments), (*value.extents[: -len(size)], *found))
    if any(each != 1 for each in size):
        raise NotProven("it divides a padded image in parts")
    found = mean_of(builder, value, dims)
    return Value(cast(builder, found.node, value.fake.dtype), found.extents)


@rule(
    aten.upsample_nearest1d.default, aten.upsample_nearest2d.default, aten.upsample_nearest3d.default,
    aten.upsample_nearest1d.vec, aten.upsample_nearest2d.vec, aten.upsample_nearest3d.vec,
)  # fmt: skip
def nearest(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Repeat each element a whole number of times."""
    value = arguments["self"] if "self" in arguments else arguments["input"]
    _require_multiples(builder, builder.shape_of(value)[2:], builder.shape(node.meta["val"])[2:])
    rank = value.ndim - 2
    _image(value, rank)
    extents = _pooled(builder, value, node.meta["val"], rank)
    return Value(builder.again(node, arguments, sizes=("output_size",)), extents)


@rule(
    aten.upsample_nearest1d_backward.default, aten.upsample_nearest2d_backward.default,
    aten.upsample_nearest3d_backward.default,
)  # fmt: skip
def nearest_backward(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Sum the gradients of an element's copies."""
    grad = arguments["grad_output"]
    true = builder.shape(node.meta["val"])
    _require_multiples(builder, true[2:], builder.shape_of(grad)[2:])
    _image(grad, grad.ndim - 2)
    extents = _pooled(builder, grad, node.meta["val"], grad.ndim - 2)
    hidden = builder.hidden(grad, grad.padded)
    return Value(builder.again(node, arguments, sizes=("output_size", "input_size"), grad_output=hidden), extents)


def _require_multiples(builder: Builder, small: Sequence[sympy.Expr], large: Sequence[sympy.Expr]) -> None:
    """Raise NotProven unless each large size is the small one times a whole number, the same for all images."""
    for before, after in zip(small, large, strict=True):
        ratio = sympy.expand(after / before)
        if not before.is_number and not (ratio.is_number and ratio.is_integer):
            raise NotProven("it does not resize a padded image by a whole number")
