"""Reading masks of attention from the graph that makes them: which keys each query sees, without making the mask."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch.fx import Node

aten = torch.ops.aten

_ANDS = {aten.bitwise_and.Tensor, aten.logical_and.default}
_SAME = {aten.expand.default, aten.clone.default, aten.alias.default, aten.lift_fresh_copy.default}
# Comparisons by the bounds that they set to the sorted keys' values: whether a query's own value is below, and seen.
_COMPARED = {
    aten.lt.Tensor: ("before", False),
    aten.le.Tensor: ("before", True),
    aten.gt.Tensor: ("after", False),
    aten.ge.Tensor: ("after", True),
}


class Visible(NamedTuple):
    """The keys that queries see: each from its first to before its last, and of its own segment.

    first, last: int64[queries]. segments: None, or nodes of integers that broadcast to [batch, 1, queries, 1] and
    [batch, 1, 1, keys]. shown: None, or a boolean node of [batch, 1, 1, keys] that hides keys from all queries.
    """

    first: torch.Tensor
    last: torch.Tensor
    segments: tuple[Node, Node] | None = None
    shown: Node | None = None

    def both(self, other: Visible) -> Visible | None:
        """Return what is visible by this and by another; None where both have segments, or nodes of keys."""
        if None not in (self.segments, other.segments) or None not in (self.shown, other.shown):
            return None
        first, last = torch.maximum(self.first, other.first), torch.minimum(self.last, other.last)
        return Visible(first, last, self.segments or other.segments, self.shown or other.shown)

    def band(self, keys: int) -> tuple[int | None, int | None] | None:
        """Return how far each query sees to the left and to the right of its own number; None where that differs.

        None on a side that has no bound.
        """
        numbers = torch.arange(len(self.first))
        left = _distance(numbers - self.first, (self.first > 0) & (self.first < keys))
        right = _distance(self.last - 1 - numbers, (self.last > 0) & (self.last < keys))
        first = numbers - left if left is not None else torch.zeros_like(numbers)
        last = numbers + right + 1 if right is not None else torch.full_like(numbers, keys)
        first, last = first.clamp(0, keys), last.clamp(0, keys)
        empty = (first >= last) & (self.first >= self.last)
        return (left, right) if bool((empty | ((first == self.first) & (last == self.last))).all()) else None


def _distance(distances: torch.Tensor, bounded: torch.Tensor) -> int | None:
    return int(distances[bounded][0]) if bool(bounded.any()) else None


def read_mask(node: Node, values: Mapping[Node, torch.Tensor], queries: int, keys: int) -> Visible | None:
    """Tell what a boolean mask, or one of zeros and -inf, shows; None for a mask that says more, or otherwise.

    values: the tensors that depend on no input. queries, keys: the sizes of its last two dimensions. Masks are read as
    what compares numbers of queries with those of keys, and what combines that: as their authors write them for any
    length, so that a mask of many gigabytes is read from its rows and columns.
    """
    if node in values:
        return _of_value(values[node], queries, keys)
    if node.op == "placeholder":
        return _of_keys(node, queries, keys)
    if node.op != "call_function":
        return None
    if (held := behind_barrier(node)) is not None:
        return read_mask(held, values, queries, keys)
    if node.target in _SAME or _is_copy(node) or (node.target is aten.unsqueeze.default and _keeps_matrix(node)):
        return read_mask(node.all_input_nodes[0], values, queries, keys)
    if node.target is aten.where.self and _is_added(node, values):
        return read_mask(node.args[0], values, queries, keys)  # pyright: ignore[reportArgumentType]
    if node.target in _ANDS:
        sides = [read_mask(each, values, queries, keys) for each in (node.args[0], node.args[1])]  # pyright: ignore
        return sides[0].both(sides[1]) if sides[0] is not None and sides[1] is not None else None
    found = None
    if node.target in _COMPARED or node.target is aten.eq.Tensor:
        found = _of_comparison(node, values, queries, keys)
    return found or _of_keys(node, queries, keys)


def _of_keys(node: Node, queries: int, keys: int) -> Visible | None:
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor) or value.dtype != torch.bool or value.ndim != 4:
        return None
    if _is_of_keys(node, keys):
        return _everything(queries, keys)._replace(shown=node)
    return None


def boolean_of(node: Node, values: Mapping[Node, torch.Tensor]) -> Node | None:
    """Return the boolean mask of which a node makes zeros and -inf; None for what is made otherwise."""
    if node.target is not aten.where.self or not _is_added(node, values):
        return None
    mask = node.args[0]
    return mask if isinstance(mask, Node) and mask.meta["val"].shape == node.meta["val"].shape else None


def _is_copy(node: Node) -> bool:
    """Tell whether a node copies a boolean mask, as to another device."""
    if node.target is not aten._to_copy.default:
        return False
    return all(each.meta["val"].dtype == torch.bool for each in (node, *node.all_input_nodes))


def behind_barrier(node: Node) -> Node | None:
    """Return the value that passes an optimization barrier as this node, as in what checkpoints recompute."""
    barrier = node.args[0] if node.target is operator.getitem else None
    if not isinstance(barrier, Node) or barrier.target is not torch.ops.tpu_dynamo.optimization_barrier.default:
        return None
    values, position = barrier.args[0], node.args[1]
    return values[position]  # pyright: ignore[reportIndexIssue, reportCallIssue, reportArgumentType, reportOptionalSubscript, reportReturnType]


def _is_added(node: Node, values: Mapping[Node, torch.Tensor]) -> bool:
    """Tell whether a choice is that of zero and -inf: a boolean mask as PyTorch adds it to scores."""
    numbers = [values.get(each) if isinstance(each, Node) else None for each in node.args[1:]]
    wanted = (0, -torch.inf)
    return all(x is not None and bool((x == number).all()) for x, number in zip(numbers, wanted, strict=True))


def _keeps_matrix(node: Node) -> bool:
    rank = node.meta["val"].ndim
    dim = node.args[1]
    return isinstance(dim, int) and dim % rank < rank - 2


def _everything(queries: int, keys: int) -> Visible:
    return Visible(torch.zeros(queries, dtype=torch.int64), torch.full((queries,), keys))


def _of_value(mask: torch.Tensor, queries: int, keys: int) -> Visible | None:
    seen = mask if mask.dtype == torch.bool else mask == 0
    if mask.dtype != torch.bool and not bool((seen | (mask == -torch.inf)).all()):
        return None
    if bool(seen.all()):
        return _everything(queries, keys)
    if seen.ndim < 2:
        return None
    matrix = seen.reshape(-1, *seen.shape[-2:])
    if not bool((matrix == matrix[:1]).all()):
        return None
    matrix = matrix[0].expand(queries, keys).to(torch.uint8)
    count = matrix.sum(-1)
    first = torch.where(count > 0, matrix.argmax(-1), 0)
    last = torch.where(count > 0, keys - matrix.flip(-1).argmax(-1), 0)
    return Visible(first, last) if bool((last - first == count).all()) else None


def _of_comparison(node: Node, values: Mapping[Node, torch.Tensor], queries: int, keys: int) -> Visible | None:
    """Read a comparison of what each query has with what each key has, in either order."""
    left, right = node.args[0], node.args[1]
    if not isinstance(left, Node) or not isinstance(right, Node):
        return None
    turned = _is_of_keys(left, keys) and _is_of_queries(right, queries)
    if not turned and not (_is_of_queries(left, queries) and _is_of_keys(right, keys)):
        return None
    of_queries, of_keys = (right, left) if turned else (left, right)
    if of_queries not in values or of_keys not in values:
        dtypes = [each.meta["val"].dtype for each in (left, right)]
        integers = not any(dtype.is_floating_point or dtype.is_complex for dtype in dtypes)
        segments = node.target is aten.eq.Tensor and integers
        return _everything(queries, keys)._replace(segments=(of_queries, of_keys)) if segments else None
    rows, columns = _one_row(values[of_queries], queries), _one_row(values[of_keys], keys)
    if rows is None or columns is None or not bool((columns.diff() >= 0).all()):
        return None
    below, not_above = (torch.searchsorted(columns, rows, right=side) for side in (False, True))
    everything = _everything(queries, keys)
    if node.target is aten.eq.Tensor:
        return Visible(below, not_above)
    side, with_equal = _COMPARED[node.target]  # pyright: ignore[reportArgumentType]
    if turned == (side == "before"):  # keys up to the query's own value
        return everything._replace(last=not_above if with_equal else below)
    return everything._replace(first=below if with_equal else not_above)


def _is_of_queries(node: Node, queries: int) -> bool:
    shape = node.meta["val"].shape
    return len(shape) >= 2 and tuple(shape[-2:]) == (queries, 1) and _has_batch_alone(shape)


def _is_of_keys(node: Node, keys: int) -> bool:
    shape = node.meta["val"].shape
    return len(shape) >= 2 and tuple(shape[-2:]) == (1, keys) and _has_batch_alone(shape)


def _has_batch_alone(shape: torch.Size) -> bool:
    return len(shape) <= 4 and (len(shape) < 3 or shape[-3] == 1)


def _one_row(value: torch.Tensor, length: int) -> torch.Tensor | None:
    """Return the [length] that a tensor repeats along its other dimensions; None where those differ."""
    rows = value.reshape(-1, length)
    return rows[0].contiguous() if bool((rows == rows[:1]).all()) else None
