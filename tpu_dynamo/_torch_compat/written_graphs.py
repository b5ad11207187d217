"""Graphs with symbolic sizes as bytes, from which another process makes them again with all that is known of the sizes.

torch's own GraphPickler does more, and imports Inductor for it.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch._dynamo.source import ConstantSource
from torch._guards import ShapeGuard
from torch._ops import HigherOrderOperator, OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.fx import Graph, GraphModule, Node
from torch.fx._lazy_graph_module import _LazyGraphModule
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.fx.node import map_aggregate
from torch.utils import _pytree as pytree
from torch.utils._sympy.value_ranges import ValueRanges

from tpu_dynamo_lowering import module_path

_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)

# What is read of nodes after AOTAutograd.
_KEPT = ("val", "stack_trace")


class NotWritable(Exception):
    """A graph that cannot become bytes."""


@dataclass(frozen=True)
class _Reference:
    """An earlier node, by its number."""

    number: int


@dataclass(frozen=True)
class _Symbolic:
    """A SymInt, SymFloat or SymBool, by its type's name, with the number that it had when its graph was traced."""

    kind: str
    expression: Any
    hint: int | float | None


@dataclass(frozen=True)
class _Tensor:
    """A fake tensor. Sizes, strides and offset are numbers or _Symbolic."""

    shape: tuple[Any, ...]
    stride: tuple[Any, ...]
    offset: Any
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True)
class _Written:
    """A graph: for each node its op, name, target, arguments, keyword arguments and meta; and its constants by name.

    traced, ranges, names: of symbols, the numbers that they were traced with, their bounds and what they stand for.
    guards: conditions on them.
    """

    nodes: list[tuple[Any, ...]]
    constants: Mapping[str, Any]
    traced: Mapping[sympy.Symbol, Any]
    ranges: Mapping[sympy.Symbol, ValueRanges[Any]]
    names: Mapping[sympy.Symbol, str]
    guards: list[sympy.Basic]


def write_graph(graph_module: GraphModule) -> bytes:
    """Return a functional ATen graph with symbolic sizes as bytes. Raises NotWritable."""
    numbers: dict[Node, int] = {}
    nodes: list[tuple[Any, ...]] = []
    constants: dict[str, Any] = {}
    for node in graph_module.graph.nodes:
        if node.op == "get_attr":
            constants[str(node.target)] = getattr(graph_module, str(node.target))
        arguments = map_aggregate((node.args, node.kwargs), lambda a: _argument(a, numbers))
        meta = {key: pytree.tree_map(_value, node.meta[key]) for key in _KEPT if key in node.meta}
        if module := module_path(node):
            meta["nn_module_stack"] = {"": (module, None)}
        numbers[node] = len(nodes)
        nodes.append((node.op, node.name, node.target, *arguments, meta))
    written = _Written(nodes, constants, *_facts(graph_module))
    data = io.BytesIO()
    try:
        with unset_fake_temporarily():  # constants are real: the device's are read
            _Pickler(data, protocol=pickle.HIGHEST_PROTOCOL).dump(written)
    except (pickle.PicklingError, AttributeError, TypeError) as why:
        raise NotWritable(f"its sizes change, and it cannot be written down: {' '.join(str(why).split())}") from None
    return data.getvalue()


def read_graph(data: bytes) -> GraphModule:
    """Return the graph that `write_graph` wrote, with symbols of an environment of its own."""
    with unset_fake_temporarily():
        written: _Written = pickle.loads(data)
    shapes = ShapeEnv()
    shapes.backed_var_to_val.update(written.traced)
    shapes.var_to_range.update(written.ranges)
    shapes.var_to_sources.update({symbol: [ConstantSource(name)] for symbol, name in written.names.items()})
    mode = FakeTensorMode(shape_env=shapes, allow_non_fake_inputs=True)
    graph = Graph()
    made: list[Node] = []

    def argument(value: Any) -> Any:
        return made[value.number] if isinstance(value, _Reference) else value

    with unset_fake_temporarily():
        for op, name, target, args, kwargs, meta in written.nodes:
            args, kwargs = map_aggregate((args, kwargs), argument)
            node = graph.create_node(op, target, args, kwargs, name)
            node.meta.update(pytree.tree_map(lambda value: _made(value, shapes, mode), meta))
            made.append(node)
    root = torch.nn.Module()
    for name, constant in written.constants.items():
        setattr(root, name, constant)
    # Making fake tensors asks questions of which the answers become guards.
    shapes.guards[:] = [ShapeGuard(guard, None, False) for guard in written.guards]  # pyright: ignore
    shapes.var_to_range.update(written.ranges)
    return _LazyGraphModule(root, graph)


def _argument(value: Any, numbers: Mapping[Node, int]) -> Any:
    if isinstance(value, Node):
        return _Reference(numbers[value])
    return _symbolic(value) if isinstance(value, _SYMBOLIC) else value


def _symbolic(value: Any) -> _Symbolic:
    if value.node.hint is None:
        raise NotWritable("its sizes change, and one of them is unbacked")
    return _Symbolic(type(value).__name__, value.node.expr, value.node.hint)


def _value(value: Any) -> Any:
    if isinstance(value, _SYMBOLIC):
        return _symbolic(value)
    if not isinstance(value, torch.Tensor):
        return value
    if type(value) is not FakeTensor or value.layout != torch.strided:
        raise NotWritable(f"its sizes change, and it has a tensor of the type {type(value).__name__}, {value.layout}")
    shape, stride, offset = map(_numbers, (value.shape, value.stride(), [value.storage_offset()]))
    return _Tensor(shape, stride, offset[0], value.dtype, value.device)


def _numbers(values: Any) -> tuple[Any, ...]:
    return tuple(_symbolic(value) if isinstance(value, _SYMBOLIC) else value for value in values)


def _made(value: Any, shapes: ShapeEnv, mode: FakeTensorMode) -> Any:
    if isinstance(value, _Symbolic):
        if value.kind == "SymBool":
            return shapes.create_symboolnode(value.expression)
        make = shapes.create_symintnode if value.kind == "SymInt" else shapes.create_symfloatnode
        return make(value.expression, hint=value.hint)
    if not isinstance(value, _Tensor):
        return value
    shape, stride = ([_made(size, shapes, mode) for size in sizes] for sizes in (value.shape, value.stride))
    offset = _made(value.offset, shapes, mode)
    with mode:
        if isinstance(offset, int) and offset == 0:
            return torch.empty_strided(shape, stride, dtype=value.dtype, device=value.device)
        room = offset + 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        return torch.empty(room, dtype=value.dtype, device=value.device).as_strided(shape, stride, offset)


def _facts(graph_module: GraphModule) -> tuple[Any, Any, Any, Any]:
    """Return what is known of the symbols, in the order of the fields of _Written."""
    leaves = pytree.tree_leaves([node.meta.get("val") for node in graph_module.graph.nodes])
    sizes = [size for leaf in leaves if isinstance(leaf, torch.Tensor) for size in (*leaf.shape, *leaf.stride())]
    symbolic = next((value for value in (*leaves, *sizes) if isinstance(value, _SYMBOLIC)), None)
    if symbolic is None:
        return {}, {}, {}, []
    shapes = symbolic.node.shape_env
    names = {symbol: sources[0].name for symbol, sources in shapes.var_to_sources.items() if sources}
    return (
        dict(shapes.backed_var_to_val),
        dict(shapes.var_to_range),
        names,
        [guard.expr for guard in shapes.guards],
    )


class _Pickler(pickle.Pickler):
    """Writes operators by their names, and refuses what is only a part of this process."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, OpOverload):
            return _operator, (obj.namespace, obj._schema.name.partition("::")[2], obj._overloadname)
        if isinstance(obj, GraphModule | HigherOrderOperator | FakeTensor | ShapeEnv | Node):
            raise pickle.PicklingError(f"it holds a {type(obj).__name__}")
        return NotImplemented


def _operator(namespace: str, name: str, overload: str) -> OpOverload:
    return getattr(getattr(getattr(torch.ops, namespace), name), overload)
