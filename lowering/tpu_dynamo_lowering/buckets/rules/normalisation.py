"""Norms: rows that are padded are rows like others; statistics over a padded dimension are of the true elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node

from ..extents import NotProven, is_padded, leading
from ..values import Builder, Value
from .pointwise import item
from .reductions import cast, count_of, moments, wide
from .table import Arguments, require_whole, rule

aten = torch.ops.aten


def _rows(value: Value, normalised: Sequence[Any]) -> tuple[int, tuple[Any, ...]]:
    """Return how many dimensions stand before the normalised ones, and the dimensions of their statistics."""
    outer = value.ndim - len(normalised)
    require_whole(value, range(outer, value.ndim), "it normalises over a padded dimension")
    return outer, (*value.extents[:outer], *((),) * len(normalised))


@rule(aten.native_layer_norm.default, aten._fused_rms_norm.default)
def layer_norm(builder: Builder, node: Node, arguments: Arguments) -> list[Value | None]:
    """Normalise each row."""
    value = arguments["input"]
    _, statistics = _rows(value, arguments["normalized_shape"])
    call = builder.again(node, arguments)
    count = len(node.meta["val"])
    return [Value(item(builder, call, i), statistics if i else value.extents) for i in range(count)]


@rule(aten.native_layer_norm_backward.default, aten._fused_rms_norm_backward.default)
def layer_norm_backward(builder: Builder, node: Node, arguments: Arguments) -> list[Value | None]:
    """Give the gradients; padded rows add nothing to those of weight and bias."""
    value = arguments["input"]
    _rows(value, arguments["normalized_shape"])
    names = [name for name in ("grad_out", "input", "mean", "rstd") if name in arguments]
    hidden: dict[str, Any] = {name: builder.hidden(arguments[name], arguments[name].padded) for name in names}
    call = builder.again(node, arguments, **hidden)
    return [
        Value(item(builder, call, i), value.extents if not i else builder.extents(result))
        if isinstance(result, torch.Tensor)
        else None
        for i, result in enumerate(node.meta["val"])
    ]


def _statistics_dims(value: Value) -> list[int]:
    return [d for d in range(value.ndim) if d != 1]


def _channels(builder: Builder, node: Node, rank: int) -> Node:
    """Return a vector of channels so that it goes with [batch, channels, ...]."""
    return builder.call(aten.view.default, node, [1, -1, *(1,) * (rank - 2)]) if rank > 1 else node


def _affine(builder: Builder, normalised: Node, weight: Value | None, bias: Value | None, rank: int) -> Node:
    if weight is not None:
        normalised = builder.call(aten.mul.Tensor, normalised, _channels(builder, weight.node, rank))
    if bias is not None:
        normalised = builder.call(aten.add.Tensor, normalised, _channels(builder, bias.node, rank))
    return normalised


_FUNCTIONAL = aten._native_batch_norm_legit_functional.default


@rule(
    _FUNCTIONAL, aten._native_batch_norm_legit_no_training.default, aten._native_batch_norm_legit.no_stats,
    aten.native_batch_norm.default,
)  # fmt: skip
def batch_norm(builder: Builder, node: Node, arguments: Arguments) -> list[Value | None]:
    """Normalise each channel by the statistics of the true elements."""
    value = arguments["input"]
    dims = _statistics_dims(value)
    require_whole(value, [1], "the number of its channels changes")
    extents = [value.extents, *(builder.extents(result) for result in node.meta["val"][1:])]
    if not arguments.get("training", False):
        call = builder.again(node, arguments)
        return [Value(item(builder, call, i), each) for i, each in enumerate(extents)]
    dtype, rank = wide(value.fake.dtype), value.ndim
    mean, variance = moments(builder, value, dims)
    scale = builder.call(aten.rsqrt.default, builder.call(aten.add.Tensor, variance.node, arguments["eps"]))
    centred = builder.call(aten.sub.Tensor, cast(builder, value.node, dtype), mean.node)
    normalised = builder.call(aten.mul.Tensor, centred, scale)
    output = _affine(builder, normalised, arguments.get("weight"), arguments.get("bias"), rank)
    channel_mean, channel_scale = (builder.call(aten.squeeze.dims, each, dims) for each in (mean.node, scale))
    results = [cast(builder, output, value.fake.dtype), channel_mean, channel_scale]
    if node.target is _FUNCTIONAL:
        count = builder.counted(count_of(value, dims), dtype)
        once_less = builder.call(aten.div.Tensor, count, builder.call(aten.sub.Tensor, count, 1))
        unbiased = builder.call(aten.squeeze.dims, builder.call(aten.mul.Tensor, variance.node, once_less), dims)
        for name, new in (("running_mean", channel_mean), ("running_var", unbiased)):
            before = arguments[name].node
            kept = builder.call(aten.mul.Tensor, before, 1 - arguments["momentum"])
            added = builder.call(aten.mul.Tensor, cast(builder, new, before.meta["val"].dtype), arguments["momentum"])
            results.append(builder.call(aten.add.Tensor, kept, added))
    shown = [cast(builder, each, fake.dtype) for each, fake in zip(results, node.meta["val"], strict=True)]
    return [Value(each, extent) for each, extent in zip(shown, extents, strict=True)]


@rule(aten.native_batch_norm_backward.default)
def batch_norm_backward(builder: Builder, node: Node, arguments: Arguments) -> list[Value | None]:
    """Give the gradients: of the input by means over the true elements, of weight and bias by their sums."""
    grad, value = arguments["grad_out"], arguments["input"]
    dims, dtype, rank = _statistics_dims(value), wide(value.fake.dtype), value.ndim
    require_whole(value, [1], "the number of its channels changes")
    if grad.extents != value.extents:
        raise NotProven("true elements of its inputs lie in different places")
    gradient = cast(builder, builder.hidden(grad, grad.padded).node, dtype)
    training = arguments["train"]

    def channels(name: str) -> Node:
        return _channels(builder, cast(builder, arguments[name].node, dtype), rank)

    if training:
        mean, scale = channels("save_mean"), channels("save_invstd")
    else:
        shifted = builder.call(aten.add.Tensor, channels("running_var"), arguments["eps"])
        mean, scale = channels("running_mean"), builder.call(aten.rsqrt.default, shifted)
    centred = builder.call(aten.sub.Tensor, cast(builder, value.node, dtype), mean)
    normalised = Value(builder.call(aten.mul.Tensor, centred, scale), value.extents)
    normalised = builder.hidden(normalised, value.padded).node
    slope = builder.call(aten.mul.Tensor, gradient, normalised)
    tilt, shift = (builder.call(aten.sum.dim_IntList, each, dims, True) for each in (slope, gradient))
    factor = scale
    if arguments.get("weight") is not None:
        factor = builder.call(aten.mul.Tensor, scale, channels("weight"))
    inner = gradient
    if training:
        count = builder.counted(count_of(value, dims), dtype)
        for each, along in ((shift, None), (tilt, normalised)):
            mean_of_it = builder.call(aten.div.Tensor, each, count)
            term = mean_of_it if along is None else builder.call(aten.mul.Tensor, along, mean_of_it)
            inner = builder.call(aten.sub.Tensor, inner, term)
    found = [
        Value(builder.call(aten.mul.Tensor, inner, factor), value.extents),
        *(Value(builder.call(aten.squeeze.dims, each, dims), value.extents[1:2]) for each in (tilt, shift)),
    ]
    return [
        Value(cast(builder, each.node, fake.dtype), each.extents) if isinstance(fake, torch.Tensor) else None
        for each, fake in zip(found, node.meta["val"], strict=True)
    ]


def _grouped(builder: Builder, value: Value, groups: int) -> Value:
    """Return [batch, channels, ...] as [batch, groups, channels of a group, ...]."""
    channels = value.fake.shape[1] // groups
    shape = [value.fake.shape[0], groups, channels, *value.fake.shape[2:]]
    extents = (value.extents[0], leading(groups, groups), leading(channels, channels), *value.extents[2:])
    return Value(builder.call(aten.view.default, value.node, shape), extents)


@rule(aten.native_group_norm.default)
def group_norm(builder: Builder, node: Node, arguments: Arguments) -> list[Value | None]:
    """Normalise groups of channels by the statistics of the true elements."""
    value, groups = arguments["input"], arguments["group"]
    require_whole(value, [1], "the number of its channels changes")
    statistics = (value.extents[0], leading(groups, groups))
    if not any(map(is_padded, value.extents[2:])):
        call = builder.again(node, arguments, sizes=("N", "HxW"))
        return [Value(item(builder, call, i), statistics if i else value.extents) for i in range(3)]
    dtype = wide(value.fake.dtype)
    contiguous = Value(builder.call(aten.clone.default, cast(builder, value.node, dtype)), value.extents)
    grouped = _grouped(builder, contiguous, groups)
    dims = list(range(2, grouped.ndim))
    mean, variance = moments(builder, grouped, dims)
    scale = builder.call(aten.rsqrt.default, builder.call(aten.add.Tensor, variance.node, arguments["eps"]))
    normalised = builder.call(aten.mul.Tensor, builder.call(aten.sub.Tensor, grouped.node, mean.node), scale)
    flat = builder.call(aten.view.default, normalised, list(value.fake.shape))
    output = _affine(builder, flat, arguments.get("weight"), arguments.get("bias"), value.ndim)
    found = [output, builder.call(aten.squeeze.dims, mean.node, dims), builder.call(aten.squeeze.dims, scale, dims)]
    return [
        Value(cast(builder, each, fake.dtype), statistics if i else value.extents)
        for i, (each, fake) in enumerate(zip(found, node.meta["val"], strict=True))
    ]


@rule(aten.native_group_norm_backward.default)
def group_norm_backward(builder: Builder, node: Node, arguments: Arguments) -> list[Value | None]:
    """Give the gradients: of the input by means over the true elements of a group, of weight and bias by sums."""
    grad, value, groups = arguments["grad_out"], arguments["input"], arguments["group"]
    require_whole(value, [1], "the number of its channels changes")
    if grad.extents != value.extents:
        raise NotProven("true elements of its inputs lie in different places")
    dtype, rank = wide(value.fake.dtype), value.ndim

    def clean(each: Value) -> Value:
        hidden = builder.hidden(each, each.padded)
        return Value(builder.call(aten.clone.default, cast(builder, hidden.node, dtype)), each.extents)

    def statistic(name: str) -> Node:
        each = clean(arguments[name])
        return builder.call(aten.view.default, each.node, [*each.fake.shape, *(1,) * (rank - 1)])

    gradient, inputs = clean(grad), clean(value)
    grouped = _grouped(builder, inputs, groups)
    dims = list(range(2, grouped.ndim))
    scale = statistic("rstd")
    centred = builder.call(aten.sub.Tensor, grouped.node, statistic("mean"))
    normalised = Value(builder.call(aten.mul.Tensor, centred, scale), grouped.extents)
    normalised = builder.hidden(normalised, grouped.padded)
    flat = builder.call(aten.view.default, normalised.node, list(value.fake.shape))
    weight = arguments.get("weight")
    scaled = gradient.node
    if weight is not None:
        scaled = builder.call(aten.mul.Tensor, scaled, _channels(builder, cast(builder, weight.node, dtype), rank))
    inner = _grouped(builder, Value(scaled, value.extents), groups).node
    count = builder.counted(count_of(grouped, dims), dtype)

    def mean(each: Node) -> Node:
        return builder.call(aten.div.Tensor, builder.call(aten.sum.dim_IntList, each, dims, True), count)

    tilt = mean(builder.call(aten.mul.Tensor, inner, normalised.node))
    left = builder.call(aten.sub.Tensor, inner, mean(inner))
    left = builder.call(aten.sub.Tensor, left, builder.call(aten.mul.Tensor, normalised.node, tilt))
    of_input = builder.call(aten.view.default, builder.call(aten.mul.Tensor, left, scale), list(value.fake.shape))
    others = [d for d in range(rank) if d != 1]
    slope = builder.call(aten.mul.Tensor, gradient.node, flat)
    of_channels = [builder.call(aten.sum.dim_IntList, each, others) for each in (slope, gradient.node)]
    found = [Value(of_input, value.extents), *(Value(each, value.extents[1:2]) for each in of_channels)]
    return [
        Value(cast(builder, each.node, fake.dtype), each.extents) if isinstance(fake, torch.Tensor) else None
        for each, fake in zip(found, node.meta["val"], strict=True)
    ]
