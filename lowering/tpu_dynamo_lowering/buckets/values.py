"""The padded graph while it is built: its tensors with what is true of them, and what rules add to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy
import torch
from torch.fx import Graph, Node

from .._torch_compat import FakeTensorMode
from ..loop_numbers import overload_with_tensors
from ..sizes import SYMBOLIC
from .extents import Extent, NotProven, is_padded, leading, size_of, true_size
from .numbers import compute

aten = torch.ops.aten


@dataclass(frozen=True)
class Value:
    """One tensor of the padded graph, and its dimensions."""

    node: Node
    extents: tuple[Extent, ...]

    @property
    def fake(self) -> torch.Tensor:
        """The fake tensor of the padded shape."""
        return self.node.meta["val"]

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.extents)

    @property
    def padded(self) -> list[int]:
        """The dimensions that have elements which are not true."""
        return [d for d, extent in enumerate(self.extents) if is_padded(extent)]


@dataclass(frozen=True)
class Number:
    """A number of the symbolic graph: its expression, and its value at the padded sizes, None where it has none."""

    true: sympy.Expr
    padded: Any
    kind: type

    @property
    def changes(self) -> bool:
        """True where it changes from call to call."""
        return not self.true.is_number


@dataclass
class Builder:
    """The graph that is built, and its inputs that hold the true numbers.

    padded: the symbols of which the graph has a larger number than the call. sizes: the numbers in their place, and of
    the symbols that are no others. lengths: the true numbers, an int64[] each. equalities: expressions that are one
    number for all sizes of the graph. traced: the numbers that the graph was traced with.
    """

    graph: Graph
    mode: FakeTensorMode
    padded: frozenset[sympy.Symbol]
    sizes: Mapping[sympy.Symbol, int | float]
    lengths: Mapping[sympy.Symbol, Node]
    equalities: Mapping[sympy.Expr, sympy.Expr] = field(default_factory=dict)
    traced: Mapping[sympy.Symbol, int | float] = field(default_factory=dict)
    at: Node | None = None
    _known: dict[Any, Node] = field(default_factory=dict)

    # Numbers

    def fixed(self, expression: Any) -> sympy.Expr:
        """Return an expression with the numbers of the symbols that do not change from call to call."""
        fixed = {symbol: sympy.sympify(n) for symbol, n in self.sizes.items() if symbol not in self.padded}
        return sympy.sympify(expression).xreplace(self.equalities).xreplace(fixed)

    def number(self, value: Any) -> Number | Any:
        """Return a symbolic number of the graph as a Number; any other value as it is."""
        if not isinstance(value, SYMBOLIC):
            return value
        kind = int if isinstance(value, torch.SymInt) else float if isinstance(value, torch.SymFloat) else bool
        return Number(self.fixed(value.node.expr), self.bound(value.node.expr, kind), kind)

    def bound(self, expression: sympy.Expr, kind: type = int) -> Any:
        """Return an expression's value at the padded sizes; None where a symbol has no number."""
        value = sympy.sympify(expression).xreplace({s: sympy.sympify(n) for s, n in self.sizes.items()})
        return kind(value) if value.is_number or value in (sympy.true, sympy.false) else None

    def example(self, expression: sympy.Expr) -> int | None:
        """Return an expression's value at the padded sizes, with numbers that are no sizes as they were traced."""
        examples = {**self.traced, **self.sizes}
        value: Any = sympy.sympify(expression).xreplace({s: sympy.sympify(n) for s, n in examples.items()})
        return int(value) if value.is_number else None

    def shape(self, tensor: torch.Tensor) -> list[sympy.Expr]:
        """Return the true shape of a tensor of the symbolic graph."""
        return [self.fixed(size.node.expr if isinstance(size, SYMBOLIC) else size) for size in tensor.shape]

    def shape_of(self, value: Value) -> list[sympy.Expr]:
        """Return the true shape of a tensor of the padded graph."""
        return [true_size(extent) for extent in value.extents]

    def extents(self, tensor: torch.Tensor) -> tuple[Extent, ...]:
        """Return the dimensions of a tensor of the symbolic graph of which the first elements are true."""
        return tuple(map(self.leading, self.shape(tensor)))

    def leading(self, true: sympy.Expr) -> Extent:
        """Return a dimension of which the first `true` elements are true. Raises NotProven for one without a number."""
        size = self.bound(true)
        if size is None:
            raise NotProven("a size of it is an input of the graph that is no tensor's size")
        return leading(true, size)

    # Nodes

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        """Add a call of an operator on nodes and numbers; masks and counts of ours go to the device of the rest."""
        args, kwargs = self._beside_each_other(args, kwargs)
        node = self.graph.call_function(target, args, kwargs)
        if self.at is not None:
            node.meta.update({k: v for k, v in self.at.meta.items() if k not in ("val", "tensor_meta")})
        with self.mode:
            given, named = torch.fx.map_arg((args, kwargs), lambda n: n.meta["val"])
            node.meta["val"] = target(*given, **named)
        return node

    def _beside_each_other(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Return arguments whose tensors are on one device, as operators demand of those that have dimensions."""
        fakes: list[torch.Tensor] = []
        torch.fx.map_arg((args, kwargs), lambda n: fakes.append(n.meta["val"]))
        devices = {fake.device for fake in fakes if isinstance(fake, torch.Tensor) and fake.device.type != "cpu"}
        if len(devices) != 1:
            return args, kwargs
        (device,) = devices

        def moved(node: Node) -> Node:
            fake = node.meta["val"]
            if not isinstance(fake, torch.Tensor) or fake.device == device or fake.ndim == 0:
                return node
            return self.once((node, device), lambda: self.call(aten._to_copy.default, node, device=device))

        return torch.fx.map_arg((args, kwargs), moved)

    def once(self, key: Any, make: Callable[[], Node]) -> Node:
        """Return what was made under this key before, or make it."""
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def counted(self, expression: Any, dtype: torch.dtype | None = None) -> Node:
        """Return a number at its true value, a tensor without dimensions: int64 or float64 if no dtype is asked for."""
        expression = sympy.sympify(expression)
        exact = self.once(expression, lambda: self._exact(expression))
        if dtype is None or exact.meta["val"].dtype == dtype:
            return exact
        return self.once((expression, dtype), lambda: self.call(aten._to_copy.default, exact, dtype=dtype))

    def _exact(self, expression: Any) -> Node:
        if isinstance(expression, sympy.Symbol):
            return self.lengths[expression]
        return compute(self.call, expression, self.counted)

    def again(self, node: Node, arguments: Mapping[str, Any], /, *, sizes: Sequence[str] = (), **replaced: Any) -> Node:
        """Add the call of `node` on the padded values, with some of its arguments replaced, by name.

        sizes: arguments that are sizes or parts of a size, which take the padded numbers. Raises NotProven where
        another argument that must be known before the program runs changes from call to call.
        """
        target: Any = node.target
        given = {**arguments, **replaced}
        wanted: set[str] = set()
        for argument in target._schema.arguments:
            name, value = argument.name, given.get(argument.name)
            if name in sizes:
                given[name] = _at_padded_sizes(value)
            elif isinstance(value, Number) and value.changes:
                if any(kind in str(argument.real_type) for kind in ("number", "Tensor")):
                    given[name] = self._as_operand(value, given)
                    wanted.add(name)
                else:
                    raise NotProven(f"its argument {name} changes from call to call")
            elif any(isinstance(v, Number) and v.changes for v in _listed(value)):
                raise NotProven(f"its argument {name} changes from call to call")
            elif name in given:
                given[name] = _at_padded_sizes(value)
        if wanted:
            overload = overload_with_tensors(target, given, wanted)
            if overload is None:
                raise NotProven(f"its argument {min(wanted)} changes from call to call")
            target = overload
        positional = [a.name for a in target._schema.arguments if not a.kwarg_only]
        last = max((i for i, name in enumerate(positional) if name in given), default=-1)
        defaults = {a.name: a.default_value for a in target._schema.arguments}
        args = [_node(given.get(name, defaults[name])) for name in positional[: last + 1]]
        kwargs = {a.name: _node(given[a.name]) for a in target._schema.arguments if a.kwarg_only and a.name in given}
        return self.call(target, *args, **kwargs)

    def _as_operand(self, number: Number, given: Mapping[str, Any]) -> Node:
        """Return a number as an operand that promotes as a Python number would."""
        tensors = [value.fake for value in given.values() if isinstance(value, Value)]
        dtype = torch.result_type(tensors[0], number.kind(1)) if tensors else _DTYPES[number.kind]
        return self.counted(number.true, dtype)

    # Truth

    def valid(self, extent: Extent) -> Node:
        """Return which elements of a dimension are true, a bool[size]."""
        return self.once(("valid", extent), lambda: self._valid(extent))

    def _valid(self, extent: Extent) -> Node:
        found: Node | None = None
        for axis, part in enumerate(extent):
            if not part.padded:
                continue
            places = self.call(aten.arange.default, part.size, dtype=torch.int32, device="cpu")
            mine = self.call(aten.lt.Tensor, places, self.counted(part.true, torch.int32))
            if len(extent) == 1:
                return mine
            shape = [p.size if i == axis else 1 for i, p in enumerate(extent)]
            mine = self.call(aten.expand.default, self.call(aten.view.default, mine, shape), [p.size for p in extent])
            found = mine if found is None else self.call(aten.logical_and.default, found, mine)
        assert found is not None
        return self.call(aten.view.default, self.call(aten.clone.default, found), [size_of(extent)])

    def hidden(self, value: Value, dims: Sequence[int], fill: bool | int | float = 0) -> Value:
        """Return a tensor with `fill` in the place of what is not true along some dimensions."""
        for dim in dims:
            extent = value.extents[dim]
            if not is_padded(extent):
                continue
            before = value

            def hide(before: Value = before, dim: int = dim, extent: Extent = extent) -> Node:
                shape = [1] * before.ndim
                shape[dim] = size_of(extent)
                mask = self.call(aten.view.default, self.valid(extent), shape)
                other = self.call(aten.scalar_tensor.default, fill, dtype=before.fake.dtype, device=before.fake.device)
                return self.call(aten.where.self, mask, before.node, other)

            value = Value(self.once((before.node, dim, repr(fill)), hide), value.extents)
        return value

    def taken(self, value: Value, dim: int, index: Node, extent: Extent) -> Value:
        """Return the rows of a tensor along `dim` whose numbers stand in `index`, an int64[n]; others are clamped."""
        within = self.call(aten.clamp.default, index, 0, value.fake.shape[dim] - 1)
        node = self.call(aten.index_select.default, value.node, dim, within)
        return Value(node, (*value.extents[:dim], extent, *value.extents[dim + 1 :]))

    def counting(self, size: int) -> Node:
        """Return the numbers from 0 to `size`, an int64[size]."""
        return self.once(("arange", size), lambda: self.call(aten.arange.default, size, device="cpu"))


_DTYPES = {int: torch.int64, float: torch.float64, bool: torch.bool}


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _at_padded_sizes(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_at_padded_sizes(each) for each in value]
    if isinstance(value, Number):
        if value.padded is None:
            raise NotProven("a size of it is an input of the graph that is no tensor's size")
        return value.padded
    return value


def _node(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_node(each) for each in value]
    return value.node if isinstance(value, Value) else value
