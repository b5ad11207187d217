"""Looking through what a graph does to matrices and scores without changing what they are: views, casts, factors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch.fx import Node

aten = torch.ops.aten

# What gives the elements of its input in their order, unless it repeats them.
_SAME_ORDER = {
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.clone.default, aten.alias.default,
    aten.detach.default, aten.unsqueeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default,
    aten.expand.default, aten.lift_fresh_copy.default,
}  # fmt: skip
_MOVES = {aten.transpose.int, aten.permute.default}
_PRODUCTS = {aten.mul.Tensor, aten.mul.Scalar}
_QUOTIENTS = {aten.div.Tensor, aten.div.Scalar}


class Matrix(NamedTuple):
    """A node whose last two dimensions are a matrix, and whether that is to be transposed."""

    node: Node
    turned: bool

    @property
    def transposed(self) -> Matrix:
        """The transposed matrices."""
        return Matrix(self.node, not self.turned)


class Use(NamedTuple):
    """A node that reads another as its argument of a number, None where it reads no matrix of it; maybe transposed."""

    user: Node
    position: int | None
    turned: bool


def has_matrices(node: Node) -> bool:
    """Tell whether a node is a tensor of three dimensions and more."""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.ndim > 2


def is_plain(node: Node) -> bool:
    """Tell whether a node has its input's elements in their order, maybe in another floating-point dtype."""
    if node.target in _SAME_ORDER:
        return node.meta["val"].numel() == node.all_input_nodes[0].meta["val"].numel()
    if node.target is aten._to_copy.default:
        return all(each.meta["val"].dtype.is_floating_point for each in (node, *node.all_input_nodes))
    if node.target in _MOVES:
        order, size = _order(node), node.all_input_nodes[0].meta["val"].shape
        kept = [dim for dim in order if size[dim] != 1]
        return kept == sorted(kept)
    return False


def _order(node: Node) -> list[int]:
    rank = node.meta["val"].ndim
    if node.target is aten.permute.default:
        return [dim % rank for dim in node.args[1]]  # pyright: ignore
    order, (first, second) = list(range(rank)), (dim % rank for dim in node.args[1:3])
    order[first], order[second] = second, first
    return order


def _swaps(node: Node) -> bool:
    """Tell whether a node transposes matrices of more than one row and column."""
    if node.target not in _MOVES or (rank := node.meta["val"].ndim) < 2 or 1 in node.meta["val"].shape[-2:]:
        return False
    return _order(node) == [*range(rank - 2), rank - 1, rank - 2]


def _keeps_matrices(node: Node) -> bool:
    return node.all_input_nodes[0].meta["val"].shape[-2:] == node.meta["val"].shape[-2:]


def plain(node: Node) -> Node:
    """Return the node whose elements, in their order, a node has."""
    while node.op == "call_function" and is_plain(node):
        node = node.all_input_nodes[0]
    return node


def matrix(node: Node, casts: bool = False) -> Matrix:
    """Return the node whose matrices a node has, maybe transposed. casts: also behind a change of the dtype."""
    turned = False
    while node.op == "call_function":
        if _swaps(node):
            turned = not turned
        elif not is_plain(node) or (node.target is aten._to_copy.default and not casts) or not _keeps_matrices(node):
            break
        node = node.all_input_nodes[0]
    return Matrix(node, turned)


def product_of(node: Node, casts: bool = False) -> tuple[Matrix, Matrix]:
    """Return what a product of matrices multiplies."""
    left, right = node.all_input_nodes if len(node.all_input_nodes) == 2 else node.all_input_nodes * 2
    return matrix(left, casts), matrix(right, casts)


def uses(node: Node, size: Sequence[int], turned: bool = False) -> Iterator[Use]:
    """Give the nodes that read a node's matrices themselves, or behind views, casts and transposes.

    size: rows and columns of a matrix.
    """
    for user in node.users:
        if _swaps(user):
            yield from uses(user, size, not turned)
        elif is_plain(user):
            yield from uses(user, size, turned)
        else:
            fits = tuple(node.meta["val"].shape[-2:]) == tuple(reversed(size) if turned else size)
            yield from (Use(user, i if fits else None, turned) for i, each in enumerate(user.args) if each is node)


def number(value: object, values: Mapping[Node, torch.Tensor]) -> float | None:
    """Return a number, or the one that a constant tensor has; None for anything else."""
    if isinstance(value, Node):
        known = values.get(value)
        return float(known) if known is not None and known.numel() == 1 and not known.is_complex() else None
    return float(value) if isinstance(value, int | float) else None


def factor(node: Node, values: Mapping[Node, torch.Tensor]) -> tuple[Node, float] | None:
    """Return what a node multiplies by a number, and that number."""
    if node.target not in _PRODUCTS | _QUOTIENTS:
        return None
    left, right = node.args
    if isinstance(right, Node) and isinstance(left, Node) and number(right, values) is None:
        left, right = (right, left) if node.target in _PRODUCTS else (left, right)
    found = number(right, values)
    if found is None or not isinstance(left, Node) or left.meta["val"].shape != node.meta["val"].shape:
        return None
    if node.target in _QUOTIENTS:
        return (left, 1 / found) if found else None
    return left, found


def factors(node: Node, values: Mapping[Node, torch.Tensor]) -> tuple[Node, float]:
    """Return what a node has, before views, casts and factors, and their product."""
    total, node = 1.0, plain(node)
    while node.op == "call_function" and (found := factor(node, values)) is not None:
        node, total = plain(found[0]), total * found[1]
    return node, total
