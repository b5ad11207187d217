"""Products of batches that a graph flattens to [batch, rows, columns], made of the tensors as they are."""

from __future__ import annotations

import math
from string import ascii_lowercase
from typing import Any, NamedTuple

import torch
from torch.fx import Graph, Node

from ._torch_compat import FakeTensorMode
from .inserted_calls import insert_call

aten = torch.ops.aten

_library = torch.library.Library("tpu_dynamo_lowering", "FRAGMENT")
_library.define("einsum(str pattern, Tensor left, Tensor right) -> Tensor")
_library.impl("einsum", lambda *given: torch.einsum(*given), "CompositeExplicitAutograd")
EINSUM = torch.ops.tpu_dynamo_lowering.einsum.default

_VIEWS = {aten.view.default, aten._unsafe_view.default, aten.unsqueeze.default, aten.squeeze.dim, aten.squeeze.dims}


class Factor(NamedTuple):
    """A part of a dimension of a product: `size` steps of `stride` in the dimension, named `B`, `M`, `K` or `N`."""

    dim: str
    size: int
    stride: int


class Operand(NamedTuple):
    """A tensor with the factors of each of its dimensions, and those of the product along which it only repeats."""

    node: Node
    factors: tuple[tuple[Factor, ...], ...]
    repeated: frozenset[Factor]

    def along(self, dim: str) -> set[Factor]:
        """Return the factors of one dimension of the product."""
        kept = {factor for each in self.factors for factor in each}
        return {factor for factor in kept | self.repeated if factor.dim == dim}

    def split(self, other: Operand) -> Operand:
        """Return the same with factors split where those of the other operand of a product end."""
        strides = {dim: sorted(factor.stride for factor in other.along(dim)) for dim in "BK"}

        def parts(factor: Factor) -> list[Factor]:
            found = []
            for stride in strides.get(factor.dim, ()):
                inner = stride // factor.stride
                if inner > 1 and factor.size % inner == 0 and factor.size > inner:
                    found.append(Factor(factor.dim, inner, factor.stride))
                    factor = Factor(factor.dim, factor.size // inner, stride)
            return [factor, *reversed(found)]

        factors = tuple(tuple(part for factor in each for part in parts(factor)) for each in self.factors)
        return Operand(self.node, factors, frozenset(part for factor in self.repeated for part in parts(factor)))


def restore_batches(graph: Graph, mode: FakeTensorMode) -> None:
    """Multiply, in place, the tensors of which a graph makes the operands of `bmm` by moving and repeating dimensions.

    So it is after einsum and matmul. XLA fuses what comes before and after into a product, but not through such views,
    and multiplies what was repeated, an expert's or a head's, as often as it is repeated. Values are the same.
    """
    for node in list(graph.nodes):
        if node.target is not aten.bmm.default or not node.meta["val"].numel():
            continue
        left, right = (_traced(argument, dims) for argument, dims in zip(node.args, ("BMK", "BKN"), strict=True))
        left, right = left.split(right), right.split(left)
        if (left.node, right.node) == node.args or not all(left.along(dim) == right.along(dim) for dim in "BK"):
            continue
        with graph.inserting_before(node):
            node.replace_all_uses_with(_product(graph, node, left, right, mode))
    graph.eliminate_dead_code()


def _product(graph: Graph, origin: Node, left: Operand, right: Operand, mode: FakeTensorMode) -> Node:
    """Insert the product of two operands, in the shape of the `bmm` that it replaces."""
    dims = ((left, "B"), (left, "M"), (right, "N"))
    whole = [factor for operand, dim in dims for factor in sorted(operand.along(dim), key=lambda one: -one.stride)]
    letters: dict[Factor, str] = {}
    for factor in (*whole, *left.along("K")):
        letters[factor] = ascii_lowercase[len(letters)]
    kept = [[factor for each in operand.factors for factor in each] for operand in (left, right)]
    made = [factor for factor in whole if factor in kept[0] or factor in kept[1]]
    pattern = "{},{}->{}".format(*("".join(letters[factor] for factor in each) for each in (*kept, made)))
    sources = [
        _shaped(graph, origin, operand.node, [factor.size for factor in factors], mode)
        for operand, factors in zip((left, right), kept, strict=True)
    ]
    product = insert_call(graph, origin, mode, EINSUM, pattern, *sources)
    if len(made) < len(whole):
        product = _shaped(graph, origin, product, [f.size if f in made else 1 for f in whole], mode)
        product = insert_call(graph, origin, mode, aten.expand.default, product, [factor.size for factor in whole])
        product = insert_call(graph, origin, mode, aten.clone.default, product)
    return _shaped(graph, origin, product, list(origin.meta["val"].shape), mode)


def _traced(argument: Any, dims: str) -> Operand:
    """Return the tensor of which an operand of `bmm` is a view, with dimensions moved, merged and repeated."""
    shape = argument.meta["val"].shape
    factors = tuple((Factor(dim, size, 1),) if size > 1 else () for dim, size in zip(dims, shape, strict=True))
    operand = Operand(argument, factors, frozenset())
    while (before := _before(operand)) is not None:
        operand = before
    return operand


def _before(operand: Operand) -> Operand | None:
    """Return the operand one step earlier; None where its node does more than to move and repeat dimensions."""
    node, factors, repeated = operand
    arguments: Any = node.args
    source: Any = arguments[0] if arguments else None
    if node.target is aten.clone.default or (node.target is aten.constant_pad_nd.default and not any(arguments[1])):
        return operand._replace(node=source)
    if (order := _order(node, len(factors))) is not None:
        return operand._replace(node=source, factors=tuple(factors[order.index(dim)] for dim in range(len(order))))
    if node.target in _VIEWS:
        regrouped = _regrouped([factor for each in factors for factor in each], source.meta["val"].shape)
        return None if regrouped is None else operand._replace(node=source, factors=regrouped)
    if node.target is aten.expand.default:
        shape = source.meta["val"].shape
        kept, dropped = [], {factor for each in factors[: len(factors) - len(shape)] for factor in each}
        for size, each in zip(shape, factors[len(factors) - len(shape) :], strict=True):
            kept.append(each if size > 1 else ())
            dropped.update(each if size == 1 else ())
        # A sum over what repeats is not the same product.
        return None if any(f.dim == "K" for f in dropped) else Operand(source, tuple(kept), repeated | dropped)
    return None


def _order(node: Node, rank: int) -> list[int] | None:
    """Return the order in which a node has the dimensions of its source; None for a node that does not move them."""
    arguments: Any = node.args
    if node.target is aten.permute.default:
        return [dim % rank for dim in arguments[1]]
    if node.target is not aten.transpose.int:
        return None
    order, (first, second) = list(range(rank)), arguments[1:]
    order[first], order[second] = order[second], order[first]
    return order


def _regrouped(factors: list[Factor], shape: Any) -> tuple[tuple[Factor, ...], ...] | None:
    """Return factors, split where needed, by dimensions of a view's source; None where that cannot be said."""
    rest, found = factors[::-1], []
    for size in shape:
        dimension: list[Factor] = []
        while (missing := size // math.prod(factor.size for factor in dimension)) > 1:
            factor = rest.pop()
            if factor.size <= missing and missing % factor.size == 0:
                dimension.append(factor)
            elif factor.size % missing == 0:
                inner = factor.size // missing
                dimension.append(Factor(factor.dim, missing, factor.stride * inner))
                rest.append(Factor(factor.dim, inner, factor.stride))
            else:
                return None
        found.append(tuple(dimension))
    return tuple(found)


def _shaped(graph: Graph, origin: Node, node: Node, shape: list[int], mode: FakeTensorMode) -> Node:
    """Insert a view of a node, which need not be possible without a copy: XLA has no strides."""
    if list(node.meta["val"].shape) == shape:
        return node
    view = graph.call_function(aten.view.default, (node, shape))
    view.meta = dict(origin.meta)
    with mode:
        view.meta["val"] = node.meta["val"].reshape(shape)
    return view
