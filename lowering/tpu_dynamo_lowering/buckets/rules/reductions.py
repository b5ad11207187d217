"""Reductions, softmaxes, scans and sorts: along a padded dimension they see a value that changes nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import sympy
import torch
from torch.fx import Node

from ..extents import NotProven, is_padded, only_leading, true_size
from ..values import Builder, Value
from .pointwise import results_of
from .table import Arguments, broadcast, dims_of, rule, without

aten = torch.ops.aten


def least(dtype: torch.dtype) -> bool | int | float:
    """Return the smallest value of a dtype."""
    if dtype.is_floating_point:
        return -math.inf
    return False if dtype == torch.bool else torch.iinfo(dtype).min


def greatest(dtype: torch.dtype) -> bool | int | float:
    """Return the greatest value of a dtype that is no nan."""
    if dtype.is_floating_point:
        return math.inf
    return True if dtype == torch.bool else torch.iinfo(dtype).max


def sorted_last(dtype: torch.dtype, descending: bool) -> bool | int | float:
    """Return the value that a stable sort puts last, behind equal ones that come before it; nan is the greatest."""
    if descending:
        return least(dtype)
    return math.nan if dtype.is_floating_point else greatest(dtype)


def _neutral(target: Any, dtype: torch.dtype, arguments: Arguments) -> bool | int | float:
    """Return the value that does not change what an operator makes of others."""
    name = target.overloadpacket.__name__
    if name in ("amax", "max", "argmax"):
        return least(dtype)
    if name in ("amin", "min", "argmin"):
        return greatest(dtype)
    if name in ("prod", "all"):
        return 1
    if name == "logsumexp":
        return -math.inf
    if name == "linalg_vector_norm":
        order = arguments.get("ord", 2)
        if not isinstance(order, int | float) or order < 0:
            raise NotProven("its order is negative")
    return 0


@rule(
    aten.sum.default, aten.sum.dim_IntList, aten.amax.default, aten.amin.default, aten.max.default, aten.min.default,
    aten.max.dim, aten.min.dim, aten.argmax.default, aten.argmin.default, aten.prod.default, aten.prod.dim_int,
    aten.any.default, aten.any.dim, aten.any.dims, aten.all.default, aten.all.dim, aten.all.dims, aten.nansum.default,
    aten.logsumexp.default, aten.linalg_vector_norm.default, aten.count_nonzero.dim_IntList, aten.count_nonzero.default,
)  # fmt: skip
def reduce(builder: Builder, node: Node, arguments: Arguments) -> Value | list[Value | None]:
    """Reduce with a value in the padding that changes nothing."""
    value = arguments["self"]
    dims = dims_of(arguments.get("dim"), value.ndim)
    counts_places = node.target.overloadpacket.__name__.startswith("arg")  # pyright: ignore[reportFunctionMemberAccess, reportAttributeAccessIssue]
    if counts_places and arguments.get("dim") is None and value.padded and value.ndim > 1:
        raise NotProven("it numbers the elements of a padded tensor as one row")
    if (counts_places or len(pytree_values(node)) > 1) and not all(only_leading(value.extents[d]) for d in dims):
        raise NotProven("it numbers elements of a dimension that does not begin with the true ones")
    hidden = builder.hidden(value, dims, _neutral(node.target, value.fake.dtype, arguments))
    extents = without(value.extents, dims, bool(arguments.get("keepdim", False)))
    return results_of(builder, builder.again(node, arguments, self=hidden), extents)


def pytree_values(node: Node) -> Sequence[Any]:
    """Return the values of a node's results."""
    value = node.meta["val"]
    return value if isinstance(value, list | tuple) else [value]


def count_of(value: Value, dims: Sequence[int]) -> sympy.Expr:
    """Return how many true elements a reduction over these dimensions takes together."""
    return sympy.expand(sympy.Mul(*(true_size(value.extents[d]) for d in dims)))


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which sums of a dtype are computed."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def cast(builder: Builder, node: Node, dtype: torch.dtype) -> Node:
    """Return a tensor in a dtype."""
    return node if node.meta["val"].dtype == dtype else builder.call(aten._to_copy.default, node, dtype=dtype)


def mean_of(builder: Builder, value: Value, dims: Sequence[int], keep: bool = True) -> Value:
    """Return the mean of the true elements over `dims`; half precision is summed in float32 and stays that."""
    hidden = builder.hidden(value, dims).node
    dtype = wide(value.fake.dtype)
    total = builder.call(aten.sum.dim_IntList, cast(builder, hidden, dtype), list(dims), keep)
    mean = builder.call(aten.div.Tensor, total, builder.counted(count_of(value, dims), dtype))
    return Value(mean, without(value.extents, dims, keep))


@rule(aten.mean.default, aten.mean.dim)
def mean(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Divide the sum of the true elements by their number."""
    value = arguments["self"]
    dims = dims_of(arguments.get("dim"), value.ndim)
    extents = without(value.extents, dims, bool(arguments.get("keepdim", False)))
    if not any(is_padded(value.extents[d]) for d in dims):
        return Value(builder.again(node, arguments), extents)
    if (dtype := arguments.get("dtype")) is not None:
        value = Value(cast(builder, value.node, dtype), value.extents)
    found = mean_of(builder, value, dims, bool(arguments.get("keepdim", False)))
    return Value(cast(builder, found.node, node.meta["val"].dtype), extents)


def moments(builder: Builder, value: Value, dims: Sequence[int], correction: float = 0) -> tuple[Value, Value]:
    """Return mean and variance of the true elements over `dims`, which are kept; half precision becomes float32.

    correction: what is taken from the number of elements, as in ATen `var.correction`.
    """
    value = Value(cast(builder, value.node, wide(value.fake.dtype)), value.extents)
    mean = mean_of(builder, value, dims)
    centred = Value(builder.call(aten.sub.Tensor, value.node, mean.node), value.extents)
    square = builder.hidden(Value(builder.call(aten.mul.Tensor, centred.node, centred.node), value.extents), dims)
    total = builder.call(aten.sum.dim_IntList, square.node, list(dims), True)
    count = builder.counted(count_of(value, dims), value.fake.dtype)
    if correction:
        count = builder.call(aten.clamp.default, builder.call(aten.sub.Tensor, count, correction), 0)
    return mean, Value(builder.call(aten.div.Tensor, total, count), mean.extents)


@rule(aten.var.correction, aten.std.correction, aten.var_mean.correction, aten.std_mean.correction)
def variance(builder: Builder, node: Node, arguments: Arguments) -> Value | list[Value | None]:
    """Take the squares of the true elements' distances to their mean."""
    value, keep = arguments["self"], bool(arguments.get("keepdim", False))
    dims = dims_of(arguments.get("dim"), value.ndim)
    extents = without(value.extents, dims, keep)
    if not any(is_padded(value.extents[d]) for d in dims):
        return results_of(builder, builder.again(node, arguments), extents)
    correction = arguments.get("correction")
    mean, spread = moments(builder, value, dims, 1 if correction is None else correction)
    root = node.target in (aten.std.correction, aten.std_mean.correction)
    found = [builder.call(aten.sqrt.default, spread.node) if root else spread.node, mean.node]
    shaped = [each if keep else builder.call(aten.squeeze.dims, each, list(dims)) for each in found]
    results: list[Value | None] = [Value(cast(builder, each, value.fake.dtype), extents) for each in shaped]
    return results if isinstance(node.meta["val"], tuple | list) else _one(results)


def _one(results: Sequence[Value | None]) -> Value:
    (first, *_) = results
    assert first is not None
    return first


@rule(
    aten._softmax.default, aten._log_softmax.default, aten._safe_softmax.default, aten.softmax.int, aten.log_softmax.int
)
def softmax(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Give padding no weight."""
    value = arguments["self"]
    hidden = builder.hidden(value, dims_of([arguments["dim"]], value.ndim), -math.inf)
    return Value(builder.again(node, arguments, self=hidden), value.extents)


@rule(aten._softmax_backward_data.default, aten._log_softmax_backward_data.default)
def softmax_backward(builder: Builder, node: Node, arguments: Arguments) -> Value:
    """Sum over the true elements of a row alone."""
    extents = broadcast([arguments["grad_output"], arguments["output"]])
    dims = dims_of([arguments["dim"]], len(extents))
    hidden: dict[str, Any] = {name: builder.hidden(arguments[name], dims) for name in ("grad_output", "output")}
    return Value(builder.again(node, arguments, **hidden), extents)


@rule(aten.cumsum.default, aten.cumprod.default, aten.logcumsumexp.default, aten.cummax.default, aten.cummin.default)
def scan(builder: Builder, node: Node, arguments: Arguments) -> Value | list[Value | None]:
    """Compute it on the padded tensor: an element depends on those before it alone."""
    value = arguments["self"]
    if value.ndim and not only_leading(value.extents[arguments["dim"] % value.ndim]):
        raise NotProven("it runs along a dimension that does not begin with the true elements")
    return results_of(builder, builder.again(node, arguments), value.extents)


@rule(aten.sort.default, aten.sort.stable, aten.argsort.default, aten.argsort.stable, aten.topk.default)
def sort(builder: Builder, node: Node, arguments: Arguments) -> Value | list[Value | None]:
    """Sort padding last, behind all equal elements: our sorts are stable."""
    value = arguments["self"]
    dim = arguments.get("dim", -1) % max(value.ndim, 1)
    extents = value.extents
    top = node.target is aten.topk.default
    descending = bool(arguments.get("largest", True) if top else arguments.get("descending", False))
    if extents and is_padded(extents[dim]):
        if not only_leading(extents[dim]):
            raise NotProven("it sorts a dimension that does not begin with the true elements")
        value = builder.hidden(value, [dim], sorted_last(value.fake.dtype, descending))
    if top and extents:
        extents = (*extents[:dim], *builder.extents(node.meta["val"][0])[dim : dim + 1], *extents[dim + 1 :])
    return results_of(builder, builder.again(node, arguments, self=value), extents)
