"""Operators that cut and join along a padded dimension, counted from its true end where they count from the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy
import torch
from torch.fx import Node

from ..extents import Extent, NotProven, is_padded, leading, only_leading, size_of, true_size
from ..values import Builder, Number, Value
from .table import Arguments, broadcast, dims_of, rule

aten = torch.ops.aten


@rule(aten.cat.default)
def cat(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Put tensors side by side; behind a padded one, the next begins where the true elements end."""
    values = [v for v in arguments["tensors"] if not (v.ndim == 1 and v.fake.shape[0] == 0)]
    dim = arguments.get("dim", 0) % values[0].ndim
    others = broadcast([Value(v.node, (*v.extents[:dim], (), *v.extents[dim + 1 :])) for v in values])
    if not all(only_leading(v.extents[dim]) for v in values):
        raise NotProven("a padded dimension that it joins does not begin with the true elements")
    (true,) = [builder.shape(node.meta["val"])[dim]]
    size = sum(v.fake.shape[dim] for v in values)
    extents = (*others[:dim], leading(true, size), *others[dim + 1 :])
    if not any(is_padded(v.extents[dim]) for v in values[:-1]):
        return Value(builder.again(node, arguments), extents)
    dtype = node.meta["val"].dtype
    places = builder.counting(size)
    shape = [1] * values[0].ndim
    shape[dim] = size
    found, begin = None, sympy.Integer(0)
    for value in values:
        index = builder.call(aten.sub.Tensor, places, builder.counted(begin))
        rows = builder.taken(value, dim, index, leading(true, size)).node
        if rows.meta["val"].dtype != dtype:
            rows = builder.call(aten._to_copy.default, rows, dtype=dtype)
        behind = builder.call(aten.view.default, builder.call(aten.ge.Scalar, index, 0), shape)
        found = rows if found is None else builder.call(aten.where.self, behind, rows, found)
        begin = begin + true_size(value.extents[dim])
    assert found is not None
    return Value(found, extents)


def from_end(builder: Builder, index: Any, length: sympy.Expr) -> sympy.Expr:
    """Return an index into a dimension of true `length`, counted from its beginning.

    Its sign at the bucket, and at the numbers that were traced, is that at all for which the graph is right: tracing
    asked for it. Raises NotProven.
    """
    true = index.true if isinstance(index, Number) else sympy.Integer(index)
    at_bucket, at_its_end = builder.example(true), builder.example(true + length)
    if at_bucket is None or at_its_end is None:
        raise NotProven("a place in it has no number before it runs")
    if at_bucket >= 0:
        return true
    return true + length if at_its_end >= 0 else sympy.Integer(0)


@rule(aten.slice.Tensor)
def slice_(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Take a slice: from a fixed place on as the operator does, else by the numbers of the elements."""
    value = arguments["self"]
    dim, step = arguments.get("dim", 0) % value.ndim, arguments.get("step", 1)
    if isinstance(step, Number):
        raise NotProven("its step changes from call to call")
    before, true = builder.shape_of(value)[dim], builder.shape(node.meta["val"])[dim]
    if sympy.expand(before - true) == 0 and step == 1:
        return value
    if not only_leading(value.extents[dim]):
        raise NotProven("it slices a dimension that does not begin with the true elements")
    given = arguments.get("start")
    start = sympy.expand(from_end(builder, 0 if given is None else given, before))
    size = builder.bound(true)
    extents = (*value.extents[:dim], leading(true, size), *value.extents[dim + 1 :])
    if start.is_number:
        end = min(int(start) + size * step, value.fake.shape[dim])
        return Value(builder.call(aten.slice.Tensor, value.node, dim, int(start), end, step), extents)
    places = builder.counting(size)
    if step != 1:
        places = builder.call(aten.mul.Tensor, places, step)
    index = builder.call(aten.add.Tensor, places, builder.counted(start))
    return builder.taken(value, dim, index, leading(true, size))


@rule(aten.select.int)
def select(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Select one element of a dimension, counted from the true end where it is counted from the end."""
    value = arguments["self"]
    dim = arguments["dim"] % value.ndim
    if not only_leading(value.extents[dim]):
        raise NotProven("it selects in a dimension that does not begin with the true elements")
    index = sympy.expand(from_end(builder, arguments["index"], builder.shape_of(value)[dim]))
    extents = (*value.extents[:dim], *value.extents[dim + 1 :])
    if index.is_number:
        return Value(builder.call(aten.select.int, value.node, dim, int(index)), extents)
    place = builder.call(aten.view.default, builder.counted(index), [1])
    row = builder.taken(value, dim, place, ())
    return Value(builder.call(aten.squeeze.dims, row.node, [dim]), extents)


def _placed(
    builder: Builder, rows: Value, dim: int, start: sympy.Expr, extent: Extent, below: Node | float
) -> tuple[Node, tuple[Extent, ...]]:
    """Put rows into a dimension of `extent` from the true place `start` on; `below` is where there are none."""
    size, count = size_of(extent), true_size(rows.extents[dim])
    index = builder.call(aten.sub.Tensor, builder.counting(size), builder.counted(start))
    moved = builder.taken(rows, dim, index, extent)
    within = builder.call(
        aten.logical_and.default,
        builder.call(aten.ge.Scalar, index, 0),
        builder.call(aten.lt.Tensor, index, builder.counted(count)),
    )
    shape = [1] * rows.ndim
    shape[dim] = size
    mask = builder.call(aten.view.default, within, shape)
    if not isinstance(below, Node):
        fake = rows.fake
        below = builder.call(aten.scalar_tensor.default, below, dtype=fake.dtype, device=fake.device)
    return builder.call(aten.where.self, mask, moved.node, below), moved.extents


@rule(aten.slice_backward.default)
def slice_backward(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Put a gradient into zeros, where the slice was."""
    grad, dim = arguments["grad_output"], arguments["dim"] % arguments["grad_output"].ndim
    true = builder.shape(node.meta["val"])[dim]
    extent = builder.leading(true)
    if not only_leading(grad.extents[dim]):
        raise NotProven("the slice does not begin with the true elements")
    start = sympy.expand(from_end(builder, arguments["start"], true))
    if arguments["step"] == 1 and not start.is_number:
        return Value(*_placed(builder, grad, dim, start, extent, 0))
    if not start.is_number:
        raise NotProven("its start changes from call to call, with a step")
    hidden = builder.hidden(grad, [dim])
    step, shape = int(arguments["step"]), [size_of(e) for e in grad.extents]
    shape[dim] = size_of(extent)
    end = min(int(start) + (grad.fake.shape[dim] - 1) * step + 1, shape[dim])
    result = builder.call(aten.slice_backward.default, hidden.node, shape, dim, int(start), end, step)
    return Value(result, (*grad.extents[:dim], extent, *grad.extents[dim + 1 :]))


@rule(aten.select_backward.default)
def select_backward(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Put a gradient into zeros, where the selected element was."""
    result = builder.shape(node.meta["val"])
    dim = arguments["dim"] % len(result)
    index = sympy.expand(from_end(builder, arguments["index"], result[dim]))
    grad = arguments["grad_output"]
    rows = Value(builder.call(aten.unsqueeze.default, grad.node, dim), (*grad.extents[:dim], (), *grad.extents[dim:]))
    return Value(*_placed(builder, rows, dim, index, builder.leading(result[dim]), 0))


@rule(aten.slice_scatter.default)
def slice_scatter(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Write rows over a slice of a tensor."""
    value, rows = arguments["self"], arguments["src"]
    dim = arguments.get("dim", 0) % value.ndim
    if arguments.get("step", 1) != 1 or not (only_leading(value.extents[dim]) and only_leading(rows.extents[dim])):
        raise NotProven("it writes with a step, or into a dimension that does not begin with the true elements")
    same = broadcast([Value(v.node, (*v.extents[:dim], (), *v.extents[dim + 1 :])) for v in (value, rows)])
    given = arguments.get("start")
    start = sympy.expand(from_end(builder, 0 if given is None else given, true_size(value.extents[dim])))
    written, _ = _placed(builder, rows, dim, start, value.extents[dim], value.node)
    return Value(written, (*same[:dim], value.extents[dim], *same[dim + 1 :]))


@rule(aten.constant_pad_nd.default)
def constant_pad_nd(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Pad: behind the true elements, what pads ours takes the padding's value."""
    value, pad = arguments["self"], arguments["pad"]
    fill = arguments.get("value", 0)
    true = builder.shape(node.meta["val"])
    extents = list(value.extents)
    for i in range(0, len(pad), 2):
        dim = value.ndim - 1 - i // 2
        if isinstance(pad[i], Number) and pad[i].changes:
            raise NotProven("what it adds before the elements changes from call to call")
        if not only_leading(value.extents[dim]):
            raise NotProven("it pads a dimension that does not begin with the true elements")
        extents[dim] = builder.leading(true[dim])
    hidden = builder.hidden(value, value.padded, fill)
    return Value(builder.again(node, arguments, sizes=("pad",), self=hidden), tuple(extents))


def by_number(builder: Builder, value: Value, dim: int, index: Node) -> Value:
    """Return a padded tensor with the elements along `dim` in the order of `index`."""
    return builder.taken(value, dim, index, value.extents[dim])


@rule(aten.flip.default)
def flip(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Reverse the true elements."""
    value = arguments["self"]
    for dim in dims_of(arguments["dims"], value.ndim):
        if not is_padded(value.extents[dim]):
            value = Value(builder.call(aten.flip.default, value.node, [dim]), value.extents)
            continue
        if not only_leading(value.extents[dim]):
            raise NotProven("it reverses a dimension that does not begin with the true elements")
        last = builder.counted(true_size(value.extents[dim]) - 1)
        index = builder.call(aten.sub.Tensor, last, builder.counting(value.fake.shape[dim]))
        value = by_number(builder, value, dim, index)
    return value


@rule(aten.roll.default)
def roll(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Return the true elements rotated."""
    value = arguments["self"]
    dims: Sequence[int] = arguments.get("dims") or []
    if not dims:
        raise NotProven("it rotates all dimensions as one")
    for shift, dim in zip(arguments["shifts"], dims_of(dims, value.ndim), strict=True):
        if not only_leading(value.extents[dim]):
            raise NotProven("it rotates a dimension that does not begin with the true elements")
        places = builder.counting(value.fake.shape[dim])
        moved = builder.call(
            aten.sub.Tensor, places, builder.counted(shift.true if isinstance(shift, Number) else shift)
        )
        index = builder.call(aten.remainder.Tensor, moved, builder.counted(builder.shape_of(value)[dim]))
        value = by_number(builder, value, dim, index)
    return value


@rule(aten.unfold.default)
def unfold(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Take windows: those that begin with true elements and end with them come first."""
    value = arguments["self"]
    dim = arguments["dimension"] % value.ndim
    if not only_leading(value.extents[dim]):
        raise NotProven("it takes windows of a dimension that does not begin with the true elements")
    true = builder.shape(node.meta["val"])[dim]
    extents = list(value.extents)
    extents[dim] = builder.leading(true)
    size = arguments["size"]
    return Value(builder.again(node, arguments), (*extents, leading(size, size)))


@rule(aten.copy_.default)
def copy_(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Write to an input that is not padded."""
    value = arguments["self"]
    if value.padded:
        raise NotProven("it writes to a tensor of the caller's whose size changes")
    if arguments["src"].padded:
        raise NotProven("it writes values of changing sizes")
    return Value(builder.again(node, arguments), value.extents)
