"""Operators that move elements, or choose among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy
import torch
from torch.fx import Node

from ..extents import Extent, NotProven, is_padded, leading, merged, only_leading, size_of, true_size, viewed
from ..values import Builder, Number, Value
from .pointwise import item
from .table import Arguments, broadcast, dims_of, require_whole, rule

aten = torch.ops.aten


@rule(aten.view.default, aten._unsafe_view.default, aten.reshape.default)
def view(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """View the padded tensor in the padded shape."""
    given = arguments["shape"] if "shape" in arguments else arguments["size"]
    # A size that the call says is simpler than what the symbolic shape makes of it beside a size of -1.
    pairs = zip(given, builder.shape(node.meta["val"]), strict=True)
    true = [sympy.Integer(said) if isinstance(said, int) and said >= 0 else shape for said, shape in pairs]
    sizes = [builder.bound(size) for size in true]
    extents = tuple(viewed(arguments["self"].extents, true, sizes))
    return Value(builder.call(node.target, arguments["self"].node, sizes), extents)


@rule(aten.permute.default)
def permute(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Permute the padded tensor."""
    dims = dims_of(arguments["dims"], arguments["self"].ndim) if arguments["dims"] else []
    return Value(builder.again(node, arguments), tuple(arguments["self"].extents[d] for d in dims))


@rule(aten.t.default, aten.numpy_T.default, aten.transpose.int)
def transpose(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Exchange two dimensions of the padded tensor."""
    value = arguments["self"]
    extents = list(value.extents)
    if value.ndim > 1:
        a, b = dims_of([arguments.get("dim0", 0), arguments.get("dim1", 1)], value.ndim)
        extents[a], extents[b] = extents[b], extents[a]
    return Value(builder.again(node, arguments), tuple(extents))


@rule(aten.unsqueeze.default)
def unsqueeze(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Add a dimension of one element."""
    value = arguments["self"]
    dim = arguments["dim"] % (value.ndim + 1)
    return Value(builder.again(node, arguments), (*value.extents[:dim], (), *value.extents[dim:]))


@rule(aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims)
def squeeze(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Leave out dimensions that have one element in the true tensor too."""
    value = arguments["self"]
    dims = dims_of(arguments.get("dim"), value.ndim)
    gone = [d for d in dims if value.extents[d] == ()]
    return Value(
        builder.call(aten.squeeze.dims, value.node, gone),
        tuple(extent for d, extent in enumerate(value.extents) if d not in gone),
    )


@rule(aten.expand.default)
def expand(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Repeat what has one element as often as there are places."""
    value = arguments["self"]
    result = builder.extents(node.meta["val"])
    offset = len(result) - value.ndim
    extents = tuple(
        value.extents[d - offset] if d >= offset and value.extents[d - offset] else extent
        for d, extent in enumerate(result)
    )
    return Value(builder.call(aten.expand.default, value.node, [size_of(e) for e in extents]), extents)


@rule(aten.repeat.default)
def repeat(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Repeat the padded tensor: each copy has its own padding."""
    value, repeats = arguments["self"], arguments["repeats"]
    offset = len(repeats) - value.ndim
    extents = []
    for d, times in enumerate(repeats):
        copies = leading(times.true, times.padded) if isinstance(times, Number) else leading(times, times)
        extents.append(merged((*copies, *(value.extents[d - offset] if d >= offset else ()))))
    return Value(builder.again(node, arguments, sizes=("repeats",)), tuple(extents))


@rule(aten.tril.default, aten.triu.default)
def triangle(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Keep a triangle of the padded matrix, which has the same corner as the true one."""
    value = arguments["self"]
    if not all(map(only_leading, value.extents[-2:])):
        raise NotProven("its rows or columns do not begin with the true ones")
    return Value(builder.again(node, arguments), value.extents)


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


@rule(aten.stack.default)
def stack(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Put tensors side by side along a new dimension."""
    extents = broadcast(arguments["tensors"])
    dim = arguments.get("dim", 0) % (len(extents) + 1)
    size = len(arguments["tensors"])
    return Value(builder.again(node, arguments), (*extents[:dim], leading(size, size), *extents[dim:]))


@rule(aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int)
def split(builder: Builder, node: Node, arguments: Arguments) -> list[Value | None]:
    """Cut along a dimension that is not padded."""
    value = arguments["self"]
    dim = arguments.get("dim", 0) % value.ndim
    require_whole(value, [dim], "it cuts a padded dimension")
    cut = builder.again(node, arguments)
    pieces = [item(builder, cut, i) for i in range(len(cut.meta["val"]))]
    own = [] if node.target is aten.unbind.int else [dim]

    def extents(piece: Node) -> tuple[Extent, ...]:
        middle = [leading(n, n) for n in (piece.meta["val"].shape[d] for d in own)]
        return (*value.extents[:dim], *middle, *value.extents[dim + 1 :])

    return [Value(piece, extents(piece)) for piece in pieces]


def from_end(builder: Builder, index: Any, length: sympy.Expr) -> sympy.Expr:
    """Return an index into a dimension of true `length`, counted from its beginning.

    Its sign at the bucket is that at all sizes for which the graph is right: tracing asked for it.
    """
    true = index.true if isinstance(index, Number) else sympy.Integer(index)
    bound = builder.bound(true)
    if bound is None:
        raise NotProven("a place in it has no number before it runs")
    if bound >= 0:
        return true
    return true + length if builder.bound(true + length) >= 0 else sympy.Integer(0)


@rule(aten.slice.Tensor)
def slice_(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Slice: from a fixed place on as the operator does, from one that changes by the numbers of the elements."""
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
    """Rotate the true elements."""
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
