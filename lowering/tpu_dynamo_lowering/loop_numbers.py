"""Python ints of loops and branches: int64 tensors without dimensions in a program, ints again where it returns them.

torch.while_loop and torch.cond are traced with symbols in the place of such ints, for which no call brings a value.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from ._torch_compat import FakeTensorMode, OpOverload, fake_mode, pytree
from .errors import Unsupported
from .subgraphs import subgraph

aten = torch.ops.aten
cond = torch.ops.higher_order.cond
while_loop = torch.ops.higher_order.while_loop

# Where a node that cannot take such a number keeps its refusal, in its metadata.
REFUSAL = "tpu_dynamo_refusal"

_DTYPES = {torch.SymInt: torch.int64, torch.SymFloat: torch.float64, torch.SymBool: torch.bool}

_ARITHMETIC: dict[Any, OpOverload] = {
    operator.add: aten.add.Tensor,
    operator.sub: aten.sub.Tensor,
    operator.mul: aten.mul.Tensor,
    operator.truediv: aten.div.Tensor,
    operator.mod: aten.remainder.Tensor,
    operator.pow: aten.pow.Tensor_Tensor,
    operator.neg: aten.neg.default,
    operator.abs: aten.abs.default,
    abs: aten.abs.default,
    operator.eq: aten.eq.Tensor,
    operator.ne: aten.ne.Tensor,
    operator.lt: aten.lt.Tensor,
    operator.le: aten.le.Tensor,
    operator.gt: aten.gt.Tensor,
    operator.ge: aten.ge.Tensor,
    operator.and_: aten.bitwise_and.Tensor,
    operator.or_: aten.bitwise_or.Tensor,
    operator.xor: aten.bitwise_xor.Tensor,
    operator.lshift: aten.bitwise_left_shift.Tensor,
    operator.rshift: aten.bitwise_right_shift.Tensor,
    operator.floordiv: aten.div.Tensor_mode,
    math.floor: aten.floor.default,
    math.ceil: aten.ceil.default,
    math.trunc: aten.alias.default,
    torch.sym_not: aten.logical_not.default,
    torch.sym_max: aten.maximum.default,
    torch.sym_min: aten.minimum.default,
    torch.sym_float: aten.alias.default,
    torch.sym_int: aten.alias.default,
}

_COMPARISONS = {operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge}

_TO_INTEGERS = {torch.sym_int, math.floor, math.ceil, math.trunc}

_FILLS = {aten.full.default: 1, aten.full_like.default: 1, aten.scalar_tensor.default: 0}

_WHY = "it takes a number that a loop computes where a program can have only one that is known before it runs"
_HINT = "let the loop carry a tensor, torch.tensor(0) in the place of 0, or write it with operators that take tensors"


def as_number(value: torch.Tensor) -> int:
    """Mark, in a graph, an output that the caller gets as a Python int. Never called."""
    raise AssertionError("a mark in a graph, never called")


def carry_numbers(graph_module: GraphModule) -> None:
    """Let loops carry tensors without dimensions instead of ints, in place, and operators take those.

    Graphs inside the graph are copied before they are changed. A node that cannot take a tensor keeps its refusal in
    its metadata.
    """
    numbers = _Numbers(graph_module, fake_mode(), set())
    numbers.carry()
    output = graph_module.graph.output_node()
    with graph_module.graph.inserting_before(output):
        output.args = torch.fx.map_arg(output.args, numbers.returned)


class _Numbers:
    """One graph, and which of its nodes have become tensors."""

    def __init__(self, graph_module: GraphModule, mode: FakeTensorMode, numbers: set[Node]):
        self._module = graph_module
        self._graph: Graph = graph_module.graph
        self._mode = mode
        self._numbers = numbers

    def carry(self) -> None:
        """Change what computes with ints of loops, in the graph's order."""
        flows: set[Node] = set()
        for node in [node for node in self._graph.nodes if node.op == "call_function"]:
            if node.target in (while_loop, cond):
                flows.add(node)
                self._flow(node)
            elif node.target is operator.getitem and node.args[0] in flows:
                if isinstance(node.meta["val"], torch.SymInt):
                    node.meta["val"] = self._scalar(torch.int64)
                    self._numbers.add(node)
            elif self._numbers.intersection(node.all_input_nodes) and not self._take(node):
                node.meta[REFUSAL] = Unsupported.at(node, _WHY, _HINT)

    def returned(self, value: Node) -> Node:
        """Return an output of the graph, marked by `as_number` if the caller wants a number."""
        return self._call(as_number, (value,), torch.int64, value) if value in self._numbers else value

    def _scalar(self, dtype: torch.dtype) -> torch.Tensor:
        with self._mode:
            return torch.empty((), dtype=dtype)

    def _call(self, target: Any, args: tuple[Any, ...], result: torch.dtype, like: Node, **kwargs: Any) -> Node:
        """Insert a call whose result is a tensor without dimensions, with the source line of the node `like`."""
        node = self._graph.call_function(target, args, kwargs)
        node.meta.update({k: v for k, v in like.meta.items() if k != "val"}, val=self._scalar(result))
        return node

    def _flow(self, node: Node) -> None:
        """Let a loop or its branches take and give tensors for ints."""
        args: list[Any] = list(node.args)
        graphs, operands = ((0, 1), [*args[2], *args[3]]) if node.target is while_loop else ((1, 2), args[3])
        results = list(node.meta["val"])
        ints = [i for i, result in enumerate(results) if isinstance(result, torch.SymInt)]
        marked = {i for i, value in enumerate(operands) if value in self._numbers}
        if node.target is while_loop:
            marked.update(ints)
        if not (marked or ints):
            return
        before = [args[i] for i in graphs]
        with self._graph.inserting_before(node):
            for i in graphs:
                args[i] = self._inner(args[i], marked)
        node.args = tuple(args)
        for unused in dict.fromkeys(before):
            if not unused.users:
                self._graph.erase_node(unused)
        node.meta["val"] = tuple(self._scalar(torch.int64) if i in ints else value for i, value in enumerate(results))

    def _inner(self, graph: Any, marked: set[int]) -> Node:
        """Insert a node for a copy of an inner graph in which the placeholders at these positions are tensors."""
        inner = subgraph(graph)
        assert inner is not None
        copy = Graph(inner)
        copies: dict[Node, Node] = {}
        for each in inner.graph.nodes:
            copies[each] = copy.node_copy(each, copies.__getitem__)
        module = GraphModule(inner, copy)
        placeholders = copy.find_nodes(op="placeholder")
        numbers = {placeholders[i] for i in marked}
        for placeholder in numbers:
            placeholder.meta["val"] = self._scalar(torch.int64)
        _Numbers(module, self._mode, numbers).carry()
        name = f"_loop_graph{len(self._module._modules)}"
        self._module.add_module(name, module)
        return self._graph.get_attr(name)

    def _take(self, node: Node) -> bool:
        """Make a node take tensors in the place of numbers; return True if it can."""
        if not isinstance(node.target, OpOverload):
            return self._compute(node)
        if (overload := _with_tensors(node, self._numbers)) is not None:
            node.target = overload
            return True
        source: Any
        dim: Any
        with self._graph.inserting_before(node):
            if node.target is aten.select.int and node.args[0] not in self._numbers:
                source, dim, index = node.args
                rank = source.meta["val"].ndim
                node.target = aten.index.Tensor
                node.args = (source, [*[None] * (dim % rank), index])
                return True
            if node.target is aten.select_scatter.default:
                source, values, dim, index = node.args
                rank = source.meta["val"].ndim
                node.target = aten.index_put.default
                node.args = (source, [*[None] * (dim % rank), index], values)
                return True
            place = _FILLS.get(node.target)
            if place is not None and node.args[place] in self._numbers:
                shape, dtype = node.meta["val"].shape, node.meta["val"].dtype
                cast = self._call(aten._to_copy.default, (node.args[place],), dtype, node, dtype=dtype)
                node.target, node.args, node.kwargs = aten.expand.default, (cast, list(shape)), {}
                return True
        return False

    def _compute(self, node: Node) -> bool:
        """Replace Python's arithmetic by operators on tensors; return True if the operation is a known one."""
        overload, kind = _ARITHMETIC.get(node.target), type(node.meta.get("val"))
        if overload is None or kind not in _DTYPES:
            return False
        result = _DTYPES[kind]
        dtype = result
        if node.target in _COMPARISONS or node.target in _TO_INTEGERS:
            dtype = torch.float64 if any(map(_is_float, node.args)) else torch.int64
        how = {"rounding_mode": "floor"} if node.target is operator.floordiv else {}
        with self._graph.inserting_before(node):
            operands = tuple(self._operand(argument, dtype, node) for argument in node.args)
            found = self._call(overload, operands, result if node.target in _COMPARISONS else dtype, node, **how)
            if found.meta["val"].dtype != result:
                found = self._call(aten._to_copy.default, (found,), result, node, dtype=result)
        node.replace_all_uses_with(found)
        self._graph.erase_node(node)
        self._numbers.add(found)
        return True

    def _operand(self, argument: Any, dtype: torch.dtype, user: Node) -> Node:
        if argument not in self._numbers:
            return self._call(aten.scalar_tensor.default, (argument,), dtype, user, dtype=dtype)
        if argument.meta["val"].dtype == dtype:
            return argument
        return self._call(aten._to_copy.default, (argument,), dtype, user, dtype=dtype)


def _is_float(argument: Any) -> bool:
    value = argument.meta["val"] if isinstance(argument, Node) else argument
    return isinstance(value, float | torch.SymFloat) or (isinstance(value, torch.Tensor) and value.is_floating_point())


def _with_tensors(node: Node, numbers: set[Node]) -> OpOverload | None:
    """Find the overload of a node's operator that takes tensors where the node has numbers; None if there is none."""
    target: Any = node.target
    given = dict(zip((a.name for a in target._schema.arguments), node.args, strict=False)) | dict(node.kwargs)
    inside = [value for value in given.values() if isinstance(value, list | tuple)]
    if any(leaf in numbers for leaf in pytree.tree_leaves(inside)):
        return None  # as a size
    wanted = {name for name, value in given.items() if isinstance(value, Node) and value in numbers}
    return overload_with_tensors(target, given, wanted)


def overload_with_tensors(target: Any, given: Mapping[str, Any], wanted: Collection[str]) -> OpOverload | None:
    """Find the overload of an operator that takes tensors as its arguments `wanted`; None if there is none.

    given: the values of arguments by name; the overload has the same arguments, of the same types where one is given.
    """
    schema, packet = target._schema.arguments, target.overloadpacket

    def takes(overload: OpOverload) -> bool:
        arguments = overload._schema.arguments
        return [a.name for a in arguments] == [a.name for a in schema] and all(
            given.get(mine.name) is None or _bare(mine) == ("Tensor" if mine.name in wanted else _bare(this))
            for mine, this in zip(arguments, schema, strict=True)
        )

    return next(filter(takes, (target, *(getattr(packet, name) for name in packet.overloads()))), None)


def _bare(argument: Any) -> str:
    return str(argument.real_type).removeprefix("Optional[").removesuffix("]")
