"""Operators that compute each element from the elements in its place, and those that only make tensors."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import Node

from ..extents import NotProven, leading
from ..values import Builder, Number, Value
from .table import Arguments, broadcast, rule, values_of

aten = torch.ops.aten


def results_of(builder: Builder, node: Node, extents: Any) -> Value | list[Value | None]:
    """Return the result of a call, or each of its results, all of the same dimensions."""
    values = node.meta["val"]
    if isinstance(values, torch.Tensor):
        return Value(node, extents)
    return [
        Value(item(builder, node, i), extents) if isinstance(value, torch.Tensor) else None
        for i, value in enumerate(values)
    ]


def item(builder: Builder, node: Node, number: int) -> Node:
    """Return one of several results of a call."""
    found = builder.graph.call_function(operator.getitem, (node, number))
    found.meta.update({k: v for k, v in node.meta.items() if k != "val"}, val=node.meta["val"][number])
    return found


@rule(
    aten._prelu_kernel.default, aten._to_copy.default, aten.alias.default, aten.complex.default, aten.detach.default,
    aten.floor_divide.default, aten.floor_divide.Scalar,
    aten.elu_backward.default, aten.hardsigmoid_backward.default, aten.hardswish_backward.default,
    aten.hardtanh_backward.default, aten.leaky_relu_backward.default, aten.lift_fresh_copy.default,
    aten.log_sigmoid_backward.default, aten.log_sigmoid_forward.default, aten.logit_backward.default,
    aten.mish_backward.default, aten.native_dropout.default, aten.polar.default, aten.softplus_backward.default,
    aten.softshrink_backward.default, aten.bernoulli.p, aten.bernoulli.default, aten.copy.default, aten.fill.Scalar,
    aten.fill.Tensor, aten.isin.Tensor_Scalar, aten.normal_functional.default, aten.conj_physical.default,
    aten._conj_physical.default, aten._conj.default, aten.real.default, aten.imag.default,
    aten.zeros_like.default, aten.ones_like.default, aten.empty_like.default,
    aten.rand_like.default, aten.randn_like.default, aten.randint_like.default, aten.randint_like.low_dtype,
)  # fmt: skip
def pointwise(builder: Builder, node: Node, arguments: Arguments) -> Value | list[Value | None]:
    """Compute it on the padded tensors: each element depends on those in its place alone."""
    extents = broadcast(values_of(arguments))
    return results_of(builder, builder.again(node, arguments), extents)


@rule(aten.isin.Tensor_Tensor)
def isin(builder: Builder, node: Node, arguments: Arguments) -> Value | list[Value | None]:
    """Look each element up in a tensor that is not padded."""
    if arguments["test_elements"].padded:
        raise NotProven("it looks elements up in a padded tensor")
    return Value(builder.again(node, arguments), arguments["elements"].extents)


@rule(
    aten.full.default, aten.zeros.default, aten.ones.default, aten.empty.memory_format, aten.rand.default,
    aten.randn.default, aten.randint.default, aten.randint.low, aten.new_zeros.default, aten.new_ones.default,
    aten.new_full.default, aten.new_empty.default, aten.eye.default, aten.eye.m, aten.scalar_tensor.default,
)  # fmt: skip
def made(builder: Builder, node: Node, arguments: Arguments) -> Value | list[Value | None]:
    """Make a larger tensor; numbers in it are the true ones."""
    result = builder.extents(node.meta["val"])
    if (filled := _filled(builder, node, arguments)) is not None:
        shape = [builder.bound(size) for size in builder.shape(node.meta["val"])]
        return Value(builder.call(aten.clone.default, builder.call(aten.expand.default, filled, shape)), result)
    return Value(builder.again(node, arguments, sizes=("size", "n", "m")), result)


@rule(aten.full_like.default)
def full_like(builder: Builder, node: Node, arguments: Arguments) -> Value | list[Value | None]:
    """Make a tensor like another; a number that changes is the true one."""
    like = arguments["self"]
    if (filled := _filled(builder, node, arguments)) is None:
        return Value(builder.again(node, arguments), like.extents)
    whole = builder.call(aten.expand.default, filled, list(like.fake.shape))
    return Value(builder.call(aten.clone.default, whole), like.extents)


def _filled(builder: Builder, node: Node, arguments: Arguments) -> Node | None:
    """Return the number that a tensor is filled with, where it changes: in its dtype, without dimensions."""
    value = next((arguments[name] for name in ("fill_value", "s") if name in arguments), None)
    if not (isinstance(value, Number) and value.changes):
        return None
    result = node.meta["val"]
    found = builder.counted(value.true, result.dtype)
    if result.device.type != "cpu":
        found = builder.call(aten._to_copy.default, found, device=result.device)
    return found


@rule(aten.arange.default, aten.arange.start, aten.arange.start_step)
def arange(builder: Builder, node: Node, arguments: Arguments) -> Value | list[Value | None]:
    """Count further than the true end. A start or step that changes is added or multiplied afterwards."""
    result = node.meta["val"]
    start, step = arguments.get("start", 0), arguments.get("step", 1)
    (true,) = builder.shape(result)
    size = builder.bound(true)
    fixed = not any(isinstance(value, Number) and value.changes for value in (start, step))
    if not fixed and result.dtype.is_floating_point:
        raise NotProven("its start or step changes from call to call, and its numbers are no integers")
    how = {"dtype": result.dtype, "device": result.device}
    start, step = (value.padded if isinstance(value, Number) and fixed else value for value in (start, step))
    if fixed:
        # As many numbers as there are places, counted by the operator's own rule for rounding.
        node_ = builder.call(aten.arange.start_step, start, start + size * step, step, **how)
        return Value(node_, (leading(true, size),))
    places = builder.call(aten.arange.default, size, **how)

    def operand(value: Any) -> Any:
        return builder.counted(value.true if isinstance(value, Number) else value, result.dtype)

    scaled = builder.call(aten.mul.Tensor, places, operand(step))
    return Value(builder.call(aten.add.Tensor, scaled, operand(start)), (leading(true, size),))
