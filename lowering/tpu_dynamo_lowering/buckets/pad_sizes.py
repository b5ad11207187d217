"""The pass: a graph with symbolic sizes as one of larger sizes, whose results hold the true ones."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch.fx import Graph, GraphModule, Node

from .._torch_compat import FakeTensorMode, OpOverload, fake_mode, graph_module_of, is_view, pytree
from ..errors import Unsupported
from ..layouts import shared_memory
from ..randomness import draw_key, is_keyed
from ..sizes import SYMBOLIC, bound_offset
from ..updates import written_values
from .extents import Extent, NotProven, Part, is_padded, size_of, true_size
from .lengths import equal, require_room
from .rules import (  # noqa: F401
    attention,
    contractions,
    indexing,
    losses,
    normalisation,
    pooling,
    reductions,
    shapes,
    slices,
)
from .rules.pointwise import pointwise
from .rules.table import rule_of, values_of
from .values import Builder, Number, Value

aten = torch.ops.aten

_HINT = "nothing need be done: the graph is compiled for each size that comes. To pad it, do without the operator"


class Unproven(Exception):
    """A graph that cannot be padded, and the operator that is the reason."""

    def __init__(self, problem: Unsupported):
        self.problem = problem
        super().__init__(str(problem))


@dataclass(frozen=True)
class PaddedGraph:
    """A graph at padded sizes, which takes one more input: the true numbers of `symbols`, an int64[symbols].

    inputs, outputs: the dimensions of each tensor, None for what is none. strides: those of each output in eager, None
    for what is no tensor. shared: the positions of outputs that share memory in eager. numbers: the expressions of
    outputs that are numbers, by their positions. All expressions are of the symbols that change.
    """

    module: GraphModule
    symbols: tuple[sympy.Symbol, ...]
    inputs: tuple[tuple[Extent, ...] | None, ...]
    outputs: tuple[tuple[Extent, ...] | None, ...]
    strides: tuple[tuple[sympy.Expr, ...] | None, ...]
    shared: frozenset[int]
    numbers: Mapping[int, sympy.Expr]


def pad_sizes(
    graph_module: GraphModule,
    sizes: Mapping[sympy.Symbol, int | float],
    symbols: Sequence[sympy.Symbol],
    known: Mapping[str, tuple[Extent, ...]] | None = None,
    equalities: Mapping[sympy.Expr, sympy.Expr] | None = None,
) -> PaddedGraph:
    """Copy a graph that `prepare` gave with larger sizes, such that no result depends on what pads its inputs.

    sizes: the padded sizes of `symbols`, and the numbers of the others that are sizes. symbols: those that change from
    call to call; one that is no size needs no number in `sizes`. known: the dimensions of inputs by the names of their
    placeholders, where it is not the first elements that are true: values that another padded graph saved. equalities:
    expressions that are equal to simpler ones for all sizes of the graph. Raises Unproven with the first operator for
    which there is no proof.
    """
    mode = fake_mode()
    graph = Graph(graph_module)
    # A simpler expression may be of a symbol that the graph computes from others, and that no input holds.
    counted = {*sizes, *symbols}
    known_equalities = {left: right for left, right in (equalities or {}).items() if right.free_symbols <= counted}
    builder = Builder(graph, mode, frozenset(symbols), sizes, {}, known_equalities, _traced(graph_module))
    walk = _Walk(builder, graph_module, mode, known or {})
    return walk.padded(tuple(symbols))


def _traced(graph_module: GraphModule) -> dict[sympy.Symbol, int | float]:
    """Return the integers that a graph was traced with, by their symbols."""
    values = [node.meta["val"] for node in graph_module.graph.find_nodes(op="placeholder")]
    nodes = [value.node for value in values if isinstance(value, torch.SymInt) and value.node.expr.is_Symbol]
    return {node.expr: node.hint for node in nodes if node.hint is not None}


class _Walk:
    """One pass over a graph."""

    def __init__(
        self, builder: Builder, graph_module: GraphModule, mode: FakeTensorMode, known: Mapping[str, tuple[Extent, ...]]
    ):
        self._builder = builder
        self._module = graph_module
        self._mode = mode
        self._known = known
        self._values: dict[Node, Any] = {}
        self._with_room: set[Part] = set()

    def padded(self, symbols: tuple[sympy.Symbol, ...]) -> PaddedGraph:
        nodes = list(self._module.graph.nodes)
        inputs = [self._enter(node) for node in nodes if node.op == "placeholder"]
        self._take_lengths(symbols)
        for node in nodes:
            if node.op == "placeholder":
                continue
            try:
                self._builder.at = node
                self._values[node] = self._pad(node)
            except NotProven as why:
                raise Unproven(Unsupported.at(node, f"it cannot be padded: {why}", _HINT)) from None
        output = next(node for node in reversed(nodes) if node.op == "output")
        returned = [self._values[a] if isinstance(a, Node) else a for a in output.args[0]]
        fakes = [a.meta["val"] if isinstance(a, Node) else a for a in output.args[0]]
        bases = shared_memory(output.args[0], written_values(self._module.graph))
        return PaddedGraph(
            graph_module_of(self._module, self._builder.graph),
            symbols,
            tuple(inputs),
            tuple(value.extents if isinstance(value, Value) else None for value in returned),
            tuple(self._strides(fake) for fake in fakes),
            frozenset(i for i, base in enumerate(bases) if base is not None),
            {i: value.true for i, value in enumerate(returned) if isinstance(value, Number)},
        )

    def _strides(self, value: Any) -> tuple[sympy.Expr, ...] | None:
        if not isinstance(value, torch.Tensor):
            return None
        fixed = self._builder.fixed
        return tuple(fixed(s.node.expr if isinstance(s, SYMBOLIC) else s) for s in value.stride())

    def _enter(self, node: Node) -> tuple[Extent, ...] | None:
        """Copy a placeholder; return its dimensions."""
        value = node.meta["val"]
        copy = self._copy(node)
        if not isinstance(value, torch.Tensor):
            self._values[node] = self._builder.number(value)
            number = self._values[node]
            # Positions stay; its users get the number from the lengths.
            copy.meta["val"] = number.padded if isinstance(number, Number) else value
            return None
        known = self._known.get(node.name)
        try:
            extents = self._builder.extents(value)
            if known is not None:
                # A size that is one number for all sizes of the graph may have been an expression in the other graph.
                extents = tuple(
                    own if not is_padded(own) and size_of(own) == size_of(its) else its
                    for own, its in zip(extents, known, strict=True)
                )
            self._require_room(extents)
        except NotProven as why:
            raise Unproven(Unsupported.at(node, f"it cannot be padded: {why}", _HINT)) from None
        self._values[node] = Value(copy, extents)
        return extents

    def _copy(self, node: Node) -> Node:
        """Copy a node as it is, with its fake tensors at the padded sizes."""
        copy = self._builder.graph.node_copy(node, self._node)
        if "val" in node.meta:
            values = {s: sympy.sympify(n) for s, n in self._builder.sizes.items()}
            copy.meta["storage_offset"] = bound_offset(node.meta["val"], values)
            copy.meta["val"] = pytree.tree_map(self._concrete, node.meta["val"])
        copy.meta.pop("tensor_meta", None)
        return copy

    def _node(self, node: Node) -> Any:
        value = self._values[node]
        if isinstance(value, Number):
            return value.padded
        return value.node if isinstance(value, Value) else value

    def _concrete(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            number = self._builder.number(value)
            return number.padded if isinstance(number, Number) else number
        bound = self._builder.bound
        shape = [bound(size.node.expr) if isinstance(size, SYMBOLIC) else size for size in value.shape]
        stride = [bound(size.node.expr) if isinstance(size, SYMBOLIC) else size for size in value.stride()]
        with self._mode:
            if None in stride:
                return torch.empty(shape, dtype=value.dtype, device=value.device)
            return torch.empty_strided(shape, stride, dtype=value.dtype, device=value.device)

    def _take_lengths(self, symbols: tuple[sympy.Symbol, ...]) -> None:
        """Add the input with the true numbers, and what takes it apart."""
        builder = self._builder
        vector = builder.graph.placeholder("true_lengths")
        with self._mode:
            vector.meta["val"] = torch.empty(len(symbols), dtype=torch.int64, device="cpu")
        builder.lengths = {s: builder.call(aten.select.int, vector, 0, i) for i, s in enumerate(symbols)}

    def _pad(self, node: Node) -> Any:
        """Return what stands for a node in the padded graph."""
        value = node.meta.get("val")
        if node.op == "output":
            return self._return(node)
        if isinstance(value, SYMBOLIC):
            return self._builder.number(value)
        if node.op == "get_attr":
            copy = self._copy(node)
            return Value(copy, self._builder.extents(value)) if isinstance(value, torch.Tensor) else copy
        if node.target is operator.getitem:
            source, number = node.args
            return self._values[source][number]  # pyright: ignore[reportArgumentType]
        if node.target is draw_key:
            return Value(self._copy(node), self._builder.extents(node.meta["val"]))
        arguments = self._arguments(node)
        if arguments is None or not self._changes(node, arguments):
            return self._keep(node)
        found = self._apply(node, arguments)
        self._check(node, found)
        return found

    def _arguments(self, node: Node) -> dict[str, Any] | None:
        """Return the arguments of an operator's call by name; None for what is no operator of a schema."""
        if not isinstance(node.target, OpOverload):
            return None

        def taken(argument: Any) -> Any:
            if isinstance(argument, Node):
                return self._values[argument]
            if isinstance(argument, list | tuple):
                return [taken(each) for each in argument]
            return self._builder.number(argument)

        names = [a.name for a in node.target._schema.arguments]
        given = node.args[1:] if is_keyed(node) else node.args
        found = {name: taken(value) for name, value in zip(names, given, strict=False)}
        return found | {name: taken(value) for name, value in node.kwargs.items()}

    def _changes(self, node: Node, arguments: dict[str, Any]) -> bool:
        """Say whether a call has anything to do with what changes from call to call."""
        leaves = pytree.tree_leaves([v if isinstance(v, list) else [v] for v in arguments.values()])
        if any(isinstance(leaf, Number) and leaf.changes for leaf in leaves):
            return True
        if any(value.padded for value in values_of(arguments)):
            return True
        results = pytree.tree_leaves(node.meta.get("val"))
        tensors = [leaf for leaf in results if isinstance(leaf, torch.Tensor)]
        return any(map(is_padded, (e for t in tensors for e in self._builder.extents(t))))

    def _keep(self, node: Node) -> Any:
        """Copy a call that has nothing to do with what changes. Raises NotProven for graphs in it that may have."""
        inputs = [self._values[argument] for argument in node.all_input_nodes]
        values = [v for each in inputs for v in (each if isinstance(each, list) else [each])]
        if any(isinstance(v, Value) and v.padded for v in values):
            raise NotProven("it has graphs inside, or is no operator")
        if any(isinstance(v, Number) and v.changes for v in values):
            raise NotProven("it takes a number that changes from call to call")
        copy = self._copy(node)
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor):
            return Value(copy, self._builder.extents(value))
        if not isinstance(value, list | tuple):
            return copy
        return [self._item(copy, i, each) for i, each in enumerate(value)]

    def _item(self, node: Node, number: int, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        item = self._builder.graph.call_function(operator.getitem, (node, number))
        item.meta.update({k: v for k, v in node.meta.items() if k != "val"}, val=node.meta["val"][number])
        return Value(item, self._builder.extents(value))

    def _apply(self, node: Node, arguments: dict[str, Any]) -> Any:
        target: Any = node.target
        if is_keyed(node):
            raise NotProven("it draws numbers again that another operator drew")
        if (rule := rule_of(target)) is not None:
            return rule(self._builder, node, arguments)
        if torch.Tag.pointwise in target.tags and not is_view(node):
            return pointwise(self._builder, node, arguments)
        raise NotProven("there is no rule for it")

    def _check(self, node: Node, found: Any) -> None:
        """Compare results with the shapes of the symbolic graph: our own mistakes must not become wrong numbers."""
        results = pytree.tree_leaves(node.meta.get("val"))
        values = found if isinstance(found, list) else [found]
        for value, result in zip(values, results, strict=True):
            if not isinstance(value, Value):
                continue
            self._require_room(value.extents)
            true = self._builder.shape(result)
            if value.fake.dtype != result.dtype or [size_of(e) for e in value.extents] != list(value.fake.shape):
                raise NotProven("its result at the padded sizes is another")
            if not all(equal(true_size(e), t, self._builder.sizes) for e, t in zip(value.extents, true, strict=True)):
                raise NotProven("its size at the padded sizes is another")

    def _require_room(self, extents: Sequence[Extent]) -> None:
        for part in {part for extent in extents for part in extent if part.padded} - self._with_room:
            require_room(part, self._builder.sizes)
            self._with_room.add(part)

    def _return(self, node: Node) -> Node:
        results: Any = node.args[0]
        returned = [self._node(result) if isinstance(result, Node) else result for result in results]
        copy = self._builder.graph.output(returned)
        copy.meta.update(node.meta)
        return copy
