"""Operators that see the same elements in another shape or order, and copies of them."""

from __future__ import annotations

import sympy
import torch
from torch.fx import Node

from ..extents import Extent, NotProven, leading, merged, only_leading, size_of, viewed
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
    """Return the padded tensor with its dimensions permuted."""
    dims = dims_of(arguments["dims"], arguments["self"].ndim) if arguments["dims"] else []
    return Value(builder.again(node, arguments), tuple(arguments["self"].extents[d] for d in dims))


@rule(aten.t.default, aten.numpy_T.default, aten.transpose.int)
def transpose(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Return the padded tensor with two dimensions exchanged."""
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
