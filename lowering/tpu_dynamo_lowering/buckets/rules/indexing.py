"""Operators that take numbers of elements: those of true elements are true, those beside them are made harmless."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node

from ..extents import Extent, NotProven, is_padded, only_leading, size_of
from ..values import Builder, Value
from .table import Arguments, broadcast, require_whole, rule

aten = torch.ops.aten


def _from_beginning(builder: Builder, value: Value, dim: int, index: Value) -> Value:
    """Return numbers of a dimension's elements, those counted from its true end counted from its beginning."""
    extent = value.extents[dim]
    if not is_padded(extent):
        return index
    if not only_leading(extent):
        raise NotProven("it takes numbers of elements of a dimension that does not begin with the true ones")
    length = builder.counted(builder.shape_of(value)[dim], index.fake.dtype)
    negative = builder.call(aten.lt.Scalar, index.node, 0)
    moved = builder.call(aten.add.Tensor, index.node, length)
    return Value(builder.call(aten.where.self, negative, moved, index.node), index.extents)


@rule(aten.embedding.default)
def embedding(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Look rows up; numbers in the padding are clamped by the operator's lowering."""
    weight, indices = arguments["weight"], arguments["indices"]
    require_whole(weight, [0], "its table is padded")
    return Value(builder.again(node, arguments), (*indices.extents, weight.extents[1]))


@rule(aten.embedding_dense_backward.default)
def embedding_dense_backward(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Add nothing to any row for what is in the padding."""
    grad, indices = arguments["grad_output"], arguments["indices"]
    broadcast([Value(grad.node, grad.extents[:-1]), indices])
    hidden: dict[str, Any] = {
        "grad_output": builder.hidden(grad, range(grad.ndim - 1)),
        "indices": builder.hidden(indices, indices.padded),
    }
    return Value(builder.again(node, arguments, **hidden), builder.extents(node.meta["val"]))


@rule(aten.index_select.default)
def index_select(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Take elements of one dimension."""
    value, index = arguments["self"], arguments["index"]
    if not value.ndim:
        raise NotProven("it takes elements of a tensor without dimensions")
    dim = arguments["dim"] % value.ndim
    found = builder.again(node, arguments, index=_from_beginning(builder, value, dim, index))
    return Value(found, (*value.extents[:dim], *(index.extents or ((),)), *value.extents[dim + 1 :]))


@rule(aten.gather.default)
def gather(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Take an element for each place of the index."""
    value, index = arguments["self"], arguments["index"]
    if not value.ndim:
        raise NotProven("it takes elements of a tensor without dimensions")
    dim = arguments["dim"] % value.ndim
    _same_places(value, index, dim)
    found = builder.again(node, arguments, index=_from_beginning(builder, value, dim, index))
    return Value(found, index.extents)


def _same_places(value: Value, index: Value, dim: int) -> None:
    """Raise NotProven unless element i of the index stands for element i of the tensor, along all other dimensions."""
    for d, (mine, its) in enumerate(zip(value.extents, index.extents, strict=True)):
        if d != dim and mine != its and not (only_leading(mine) and only_leading(its)):
            raise NotProven("true elements of its inputs lie in different places")


@rule(aten.scatter_add.default)
def scatter_add(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Add nothing for what is in the padding."""
    value, index, source = arguments["self"], arguments["index"], arguments["src"]
    dim = arguments["dim"] % max(value.ndim, 1)
    if value.ndim:
        _same_places(value, index, dim)
        _same_places(source, index, -1)
        index = _from_beginning(builder, value, dim, index)
    hidden = builder.hidden(index, index.padded)
    extents = Value(source.node, index.extents)
    if list(source.fake.shape) != list(index.fake.shape):
        raise NotProven("it adds a part of a tensor")
    return Value(
        builder.again(node, arguments, index=hidden, src=builder.hidden(extents, extents.padded)), value.extents
    )


def _index_extents(value: Value, indices: Sequence[Value | None]) -> tuple[Extent, ...]:
    """Return the dimensions of what indices into some dimensions take, as NumPy's advanced indexing orders them."""
    given = [d for d, index in enumerate(indices) if index is not None]
    if any(index is not None and index.fake.dtype in (torch.bool, torch.uint8) for index in indices):
        raise NotProven("it takes elements by a mask")
    together = broadcast([index for index in indices if index is not None])
    rest = [extent for d, extent in enumerate(value.extents) if d not in given]
    adjacent = given == list(range(given[0], given[-1] + 1))
    place = given[0] if adjacent else 0
    return (*rest[:place], *together, *rest[place:])


def _indices(builder: Builder, value: Value, indices: Sequence[Value | None]) -> list[Value | None]:
    return [None if index is None else _from_beginning(builder, value, d, index) for d, index in enumerate(indices)]


@rule(aten.index.Tensor, aten._unsafe_index.Tensor)
def index(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Take elements by numbers in some dimensions."""
    value, indices = arguments["self"], arguments["indices"]
    extents = _index_extents(value, indices)
    return Value(builder.again(node, arguments, indices=_indices(builder, value, indices)), extents)


def _rest(value: Value, indices: Sequence[Value | None]) -> list[int]:
    """Return which dimensions of what indices take are the tensor's own."""
    given = [d for d, index in enumerate(indices) if index is not None]
    rank = max(index.ndim for index in indices if index is not None)
    place = given[0] if given == list(range(given[0], given[-1] + 1)) else 0
    return [d for d in range(value.ndim - len(given) + rank) if not place <= d < place + rank]


def _first_again(builder: Builder, value: Value, dims: Sequence[int]) -> Value:
    """Return a tensor with its first elements along some dimensions in the place of those that are not true."""
    for dim in dims:
        shape = [1] * value.ndim
        shape[dim] = value.fake.shape[dim]
        mask = builder.call(aten.view.default, builder.valid(value.extents[dim]), shape)
        first = builder.call(aten.slice.Tensor, value.node, dim, 0, 1)
        value = Value(builder.call(aten.where.self, mask, value.node, first), value.extents)
    return value


@rule(aten.index_copy.default)
def index_copy(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Write rows by their numbers: for the padding the first one again."""
    value, index, source = arguments["self"], arguments["index"], arguments["source"]
    if not value.ndim:
        raise NotProven("it writes to a tensor without dimensions")
    dim = arguments["dim"] % value.ndim
    taken = (*value.extents[:dim], *index.extents, *value.extents[dim + 1 :])
    if source.extents != taken:
        raise NotProven("true elements of its inputs lie in different places")
    index = _from_beginning(builder, value, dim, index)
    again: dict[str, Any] = {"index": _first_again(builder, index, index.padded)}
    again["source"] = _first_again(builder, source, [dim] if is_padded(source.extents[dim]) else [])
    return Value(builder.again(node, arguments, **again), value.extents)


@rule(aten.index_put.default, aten._unsafe_index_put.default)
def index_put(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Write elements by numbers: for the padding the first one again, or where they are added, zeros."""
    value, indices, source = arguments["self"], arguments["indices"], arguments["values"]
    taken = _index_extents(value, indices)
    together = broadcast([source, Value(source.node, taken)], len(taken))
    written = any(index.padded for index in indices if index is not None)
    found = _indices(builder, value, indices)
    if not written:
        if together != taken:
            raise NotProven("true elements of its inputs lie in different places")
        return Value(builder.again(node, arguments, indices=found), value.extents)
    if source.extents != taken:
        source = Value(builder.call(aten.expand.default, source.node, [size_of(e) for e in taken]), taken)
    if arguments.get("accumulate", False):
        hidden = builder.hidden(source, source.padded)
        safe = [None if index is None else builder.hidden(index, index.padded) for index in found]
    else:
        hidden = _first_again(builder, source, [d for d in source.padded if d not in _rest(value, indices)])
        safe = [None if index is None else _first_again(builder, index, index.padded) for index in found]
    return Value(builder.again(node, arguments, indices=safe, values=hidden), value.extents)
