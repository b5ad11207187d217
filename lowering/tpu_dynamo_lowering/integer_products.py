"""Products of dequantised tensors, made of the integers: scales and biases come after the product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from ._torch_compat import FakeTensorMode
from .batched_products import EINSUM
from .inserted_calls import insert_call
from .integer_operands import Integers, integers_of
from .subgraphs import subgraphs

aten = torch.ops.aten
prims = torch.ops.prims

# Products of int8 or uint8, less their zero points, summed in int32. A zero point has one element, or the dimensions of
# its tensor, of size 1 but where it differs; None is 0.
_library = torch.library.Library("tpu_dynamo_lowering", "FRAGMENT")
_library.define(
    "integer_einsum(str pattern, Tensor left, Tensor right, Tensor? left_zero_point, Tensor? right_zero_point)"
    " -> Tensor"
)
_library.define(
    "integer_convolution(Tensor input, Tensor weight, Tensor? input_zero_point, Tensor? weight_zero_point,"
    " int[] stride, int[] padding, int[] dilation, int groups) -> Tensor"
)


def _shifted(value: Tensor, zero_point: Tensor | None) -> Tensor:
    return value.double() if zero_point is None else value.double() - zero_point


def _einsum(
    pattern: str, left: Tensor, right: Tensor, left_zero_point: Tensor | None, right_zero_point: Tensor | None
) -> Tensor:
    product = torch.einsum(pattern, _shifted(left, left_zero_point), _shifted(right, right_zero_point))
    return product.to(torch.int32)


def _convolution(
    input: Tensor,
    weight: Tensor,
    input_zero_point: Tensor | None,
    weight_zero_point: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    operands = (_shifted(input, input_zero_point), _shifted(weight, weight_zero_point))
    return aten.convolution.default(*operands, None, stride, padding, dilation, False, [0], groups).to(torch.int32)


_library.impl("integer_einsum", _einsum, "CompositeExplicitAutograd")
_library.impl("integer_convolution", _convolution, "CompositeExplicitAutograd")
INTEGER_EINSUM = torch.ops.tpu_dynamo_lowering.integer_einsum.default
INTEGER_CONVOLUTION = torch.ops.tpu_dynamo_lowering.integer_convolution.default

# So many products of 8 bits each fit into int32.
_MOST_TERMS = 2**31 // (255 * 255)

# The dimensions of the operands and of the result; those that the result lacks are summed over.
_PATTERNS: dict[Any, str] = {
    aten.mm.default: "mk,kn->mn",
    aten.addmm.default: "mk,kn->mn",
    aten.bmm.default: "bmk,bkn->bmn",
}
_ROWS = "abcdefgh"
# A convolution's result has only its batch and its channels from the operands.
_CONVOLUTIONS = {3: "nix,ojk->noy", 4: "nixy,ojkl->noab", 5: "nixyz,ojklm->noabc"}


def multiply_integers(graph_module: GraphModule, mode: FakeTensorMode) -> None:
    """Multiply, in place, the integers of which a graph makes both operands of a product by dequantising them.

    So are the linear layers, convolutions and matrix products of PT2E's models. The product is one of int8 with sums in
    int32, for which TPUs have units; it is exact, where eager PyTorch multiplies floats.
    """
    graph = graph_module.graph
    for node in list(graph.nodes):
        for inner in subgraphs(node):
            multiply_integers(inner, mode)
        operands = _operands(node)
        if operands is None:
            continue
        with graph.inserting_before(node):
            left, right = (integers_of(graph, operand, mode) for operand in operands)
            result = None if left is None or right is None else _product(graph, node, left, right, mode)
            if result is not None:
                node.replace_all_uses_with(result)
    graph.eliminate_dead_code()


def _operands(node: Node) -> tuple[Any, Any] | None:
    """Return the two tensors that a node multiplies; None for other nodes, and for products that are not rewritten."""
    if node.op != "call_function" or any(factor != 1 for factor in node.kwargs.values()):
        return None
    arguments: Any = node.args
    if node.target in _PATTERNS:
        found = arguments[-2:]
    elif node.target is EINSUM:
        found = arguments[1:]
    elif node.target is aten.linear.default or (node.target is aten.convolution.default and not arguments[6]):
        found = arguments[:2]
    else:
        return None
    value = node.meta["val"]
    return tuple(found) if value.numel() and value.dtype.is_floating_point and value.dtype.itemsize <= 4 else None


def _pattern(node: Node, left: Integers) -> str:
    rank = left.value.meta["val"].ndim
    if node.target is EINSUM:
        return str(node.args[0])
    if node.target is aten.convolution.default:
        return _CONVOLUTIONS[rank]
    if node.target is aten.linear.default:
        return f"{_ROWS[: rank - 1]}y,zy->{_ROWS[: rank - 1]}z"
    return _PATTERNS[node.target]


def _bias(node: Node) -> Any:
    """Return what a product adds, a node, or None."""
    arguments: Any = node.args
    if node.target is aten.addmm.default:
        return arguments[0]
    takes_bias = node.target in (aten.linear.default, aten.convolution.default)
    return arguments[2] if takes_bias and len(arguments) > 2 else None


def _product(graph: Graph, node: Node, left: Integers, right: Integers, mode: FakeTensorMode) -> Node | None:
    """Insert the product of integers, scaled and with its bias; None where scales, zero points or sums forbid it."""
    pattern = _pattern(node, left)
    letters, result = pattern.partition("->")[::2]
    sides = list(zip((left, right), letters.split(","), strict=True))
    summed = [size for size, letter in zip(_shape(right.value), sides[1][1], strict=True) if letter not in result]
    fit = all(_is_kept(each, dims, result) for side, dims in sides for each in (side.scale, side.zero_point))
    if not 0 < math.prod(summed) <= _MOST_TERMS or not fit:
        return None
    zero_points = [_integer(graph, node, side.zero_point, mode) for side, _ in sides]
    if node.target is aten.convolution.default:
        arguments: Any = node.args
        *window, _, _, groups = arguments[3:]
        target, operands = INTEGER_CONVOLUTION, (left.value, right.value, *zero_points, *window, groups)
    else:
        target, operands = INTEGER_EINSUM, (pattern, left.value, right.value, *zero_points)
    total = insert_call(graph, node, mode, target, *operands)
    value = insert_call(graph, node, mode, prims.convert_element_type.default, total, torch.float32)
    for side, dims in sides:
        value = _scaled(graph, node, value, side.scale, dims, result, mode)
    if (bias := _bias(node)) is not None:
        if node.target is aten.convolution.default:
            shape = [-1] + [1] * (len(result) - 2)
            bias = insert_call(graph, node, mode, aten.view.default, bias, shape)
        value = insert_call(graph, node, mode, aten.add.Tensor, value, _single(graph, node, bias, mode))
    dtype = node.meta["val"].dtype
    return value if dtype == torch.float32 else _cast(graph, node, value, dtype, mode)


def _is_kept(each: Any, dims: str, result: str) -> bool:
    """Tell whether a scale or zero point is the same along all dimensions that are summed over."""
    if not isinstance(each, Node) or each.meta["val"].numel() == 1:
        return True
    return all(size == 1 or letter in result for size, letter in zip(_shape(each), dims, strict=True))


def _integer(graph: Graph, node: Node, zero_point: Any, mode: FakeTensorMode) -> Node | None:
    """Return a zero point as an int32 tensor; None for 0."""
    if isinstance(zero_point, Node):
        return _cast(graph, node, zero_point, torch.int32, mode)
    if zero_point == 0:
        return None
    full = graph.call_function(aten.full.default, ([], int(zero_point)), {"dtype": torch.int32})
    full.meta = dict(node.meta)
    with mode:
        full.meta["val"] = torch.full([], int(zero_point), dtype=torch.int32, device=node.meta["val"].device)
    return full


def _scaled(graph: Graph, node: Node, value: Node, scale: Any, dims: str, result: str, mode: FakeTensorMode) -> Node:
    """Insert the multiplication of a result by the scale of one of its operands, which has the dimensions `dims`."""
    if not isinstance(scale, Node):
        return insert_call(graph, node, mode, aten.mul.Scalar, value, float(scale))
    sizes = dict(zip(dims, _shape(scale), strict=False)) if scale.meta["val"].numel() > 1 else {}
    order = sorted(range(len(sizes)), key=lambda dim: (result + dims).index(dims[dim]))
    if order != sorted(order):
        scale = insert_call(graph, node, mode, aten.permute.default, scale, order)
    shape = [sizes.get(letter, 1) for letter in result] if sizes else []
    scale = _single(graph, node, insert_call(graph, node, mode, aten.view.default, scale, shape), mode)
    return insert_call(graph, node, mode, aten.mul.Tensor, value, scale)


def _single(graph: Graph, node: Node, value: Node, mode: FakeTensorMode) -> Node:
    return value if value.meta["val"].dtype == torch.float32 else _cast(graph, node, value, torch.float32, mode)


def _cast(graph: Graph, node: Node, value: Node, dtype: torch.dtype, mode: FakeTensorMode) -> Node:
    return insert_call(graph, node, mode, prims.convert_element_type.default, value, dtype)


def _shape(node: Node) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)
