"""Symbolic sizes: where a graph's symbols are read from, and the graph with numbers in their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch.fx import GraphModule, Node

from ._torch_compat import FakeTensorMode, graph_module_of, pytree
from .errors import Unsupported, UnsupportedOp
from .loop_numbers import REFUSAL
from .subgraphs import subgraph

SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)


@dataclass(frozen=True)
class SizeSource:
    """The place of a symbol's value among a call's arguments: an argument itself, or one of its dimensions."""

    symbol: sympy.Symbol
    position: int
    dimension: int | None

    def read(self, arguments: Sequence[Any]) -> int | float:
        """Return the symbol's value in a call with these arguments."""
        argument = arguments[self.position]
        return argument if self.dimension is None else argument.shape[self.dimension]


def size_sources(graph_module: GraphModule) -> tuple[SizeSource, ...]:
    """Find one source for every symbol that the graph computes with, in the order of the inputs.

    A symbol that stands in strides alone is none of them: a program does not depend on it. Raises UnsupportedOp
    when a size depends on data (an unbacked symbol): no executable can be chosen before the values are known.
    """
    found: dict[sympy.Symbol, SizeSource] = {}

    def note(value: object, position: int, dimension: int | None) -> None:
        if isinstance(value, SYMBOLIC) and isinstance(value.node.expr, sympy.Symbol):
            found.setdefault(value.node.expr, SizeSource(value.node.expr, position, dimension))

    placeholders = graph_module.graph.find_nodes(op="placeholder")
    # Plain arguments first: reading one costs less than asking a tensor for its shape.
    for position, node in enumerate(placeholders):
        note(node.meta["val"], position, None)
    for position, node in enumerate(placeholders):
        if isinstance(value := node.meta["val"], torch.Tensor):
            for dimension, size in enumerate(value.shape):
                note(size, position, dimension)
    problems = _data_dependent(graph_module, set(found))
    if problems:
        raise UnsupportedOp(dict.fromkeys(problems))
    needed = _needed(graph_module)
    return tuple(source for symbol, source in found.items() if symbol in needed)


def plain_numbers(graph_module: GraphModule) -> tuple[SizeSource, ...]:
    """Find the integer inputs with which the graph computes, and of which no tensor's shape depends."""
    shaping: set[sympy.Symbol] = set()
    for node in graph_module.graph.nodes:
        for leaf in pytree.tree_leaves(node.meta.get("val")):
            if isinstance(leaf, torch.Tensor):
                sizes = [size for size in (*leaf.shape, *leaf.stride()) if isinstance(size, SYMBOLIC)]
                shaping.update(*(size.node.expr.free_symbols for size in sizes))
    found: list[SizeSource] = []
    for position, node in enumerate(graph_module.graph.find_nodes(op="placeholder")):
        value = node.meta["val"]
        symbol = value.node.expr if isinstance(value, torch.SymInt) else None
        if isinstance(symbol, sympy.Symbol) and symbol not in shaping:
            found.append(SizeSource(symbol, position, None))
            shaping.add(symbol)
    needed = _needed(graph_module)
    return tuple(source for source in found if source.symbol in needed)


def _needed(graph_module: GraphModule) -> set[sympy.Symbol]:
    needed: set[sympy.Symbol] = set()
    for node in graph_module.graph.nodes:
        for leaf in pytree.tree_leaves(node.meta.get("val")):
            if isinstance(leaf, torch.Tensor):
                needed.update(*(size.node.expr.free_symbols for size in leaf.shape if isinstance(size, SYMBOLIC)))
            elif isinstance(leaf, SYMBOLIC) and node.users:
                needed |= leaf.node.expr.free_symbols
    return needed


def _data_dependent(graph_module: GraphModule, known: set[sympy.Symbol]) -> list[Unsupported]:
    problems = []
    for node in graph_module.graph.nodes:
        if (inner := subgraph(node)) is not None:
            problems += _data_dependent(inner, known)
        if (refusal := node.meta.get(REFUSAL)) is not None:
            problems.append(refusal)
        free = {s for v in _symbolic_values(node.meta.get("val")) for s in v.node.expr.free_symbols}
        if free - known and refusal is None:
            why = "its result's size depends on the values of a tensor, and an executable has fixed sizes"
            hint = (
                "keep the size fixed (torch.where or a mask instead of boolean indexing, torch.nonzero_static), "
                "or let Dynamo break the graph there: torch._dynamo.config.capture_dynamic_output_shape_ops and "
                "capture_scalar_outputs set to False"
            )
            problems.append(Unsupported.at(node, why, hint))
        known = known | free  # the first operation is the cause, those after it only use the size
    return problems


def _symbolic_values(value: Any) -> list[Any]:
    found = []
    for leaf in pytree.tree_leaves(value):
        if isinstance(leaf, torch.Tensor):
            found += [s for s in (*leaf.shape, *leaf.stride()) if isinstance(s, SYMBOLIC)]
        elif isinstance(leaf, SYMBOLIC):
            found.append(leaf)
    return found


def bound_offset(value: Any, values: Mapping[sympy.Symbol, sympy.Expr]) -> int | None:
    """Return a tensor's offset in its storage, in elements; None where it is not known."""
    offset = value.storage_offset() if isinstance(value, torch.Tensor) else None
    if isinstance(offset, torch.SymInt):
        bound = offset.node.expr.xreplace(values)
        return int(bound) if bound.is_number else None
    return offset


def bind_sizes(
    graph_module: GraphModule, sizes: Mapping[sympy.Symbol, int | float], mode: FakeTensorMode
) -> GraphModule:
    """Copy the graph with a number in the place of every symbolic size.

    Each tensor's `meta["val"]` becomes a fake tensor of `mode` with concrete sizes and strides, contiguous where a
    stride has no number in `sizes`; nodes that compute sizes vanish into their users' arguments. Placeholders stay,
    those of sizes without users, so that positions still mean the call's arguments.
    """

    values = {symbol: sympy.sympify(size) for symbol, size in sizes.items()}

    def number(value: Any) -> Any:
        if not isinstance(value, SYMBOLIC):
            return value
        bound = value.node.expr.xreplace(values)
        if not bound.is_number and not isinstance(value, torch.SymBool):
            return value  # of a stride alone, and without users
        if isinstance(value, torch.SymInt):
            return int(bound)
        return float(bound) if isinstance(value, torch.SymFloat) else bool(bound)

    def concrete(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return number(value)
        shape = tuple(map(number, value.shape))
        with mode:
            if any(isinstance(s, SYMBOLIC) and s.node.expr.free_symbols - sizes.keys() for s in value.stride()):
                return torch.empty(shape, dtype=value.dtype, device=value.device)
            stride = tuple(map(number, value.stride()))
            return torch.empty_strided(shape, stride, dtype=value.dtype, device=value.device)

    def keep_or_fold(argument: Node) -> Any:
        bound = copies[argument]
        scalar = isinstance(bound.meta.get("val"), bool | int | float)
        return bound.meta["val"] if scalar else bound

    copy = torch.fx.Graph(graph_module)
    copies: dict[Node, Node] = {}
    subgraphs: dict[str, GraphModule] = {}
    for node in graph_module.graph.nodes:
        bound = copies[node] = copy.node_copy(node, keep_or_fold)
        if "val" in node.meta:
            value = node.meta["val"]
            bound.meta["val"] = pytree.tree_map(concrete, value)
            # The fake tensors are fresh, so views no longer know where in their base they begin.
            bound.meta["storage_offset"] = bound_offset(value, values)
            bound.meta.pop("tensor_meta", None)
        if (inner := subgraph(node)) is not None:
            subgraphs[str(node.target)] = bind_sizes(inner, sizes, mode)
    for node in reversed(copy.nodes):
        scalar = isinstance(node.meta.get("val"), bool | int | float)
        if node.op == "call_function" and not node.users and scalar:
            copy.erase_node(node)
    bound_module = graph_module_of(graph_module, copy)
    for name, inner in subgraphs.items():
        setattr(bound_module, name, inner)
    return bound_module
