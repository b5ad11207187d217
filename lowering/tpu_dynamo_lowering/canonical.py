"""The text of a graph with all that its program depends on, and nothing else: no names, lines or addresses.

It holds everything that `lower` reads of a graph, for sizes that are numbers: see `bind_sizes`. Graphs with equal
texts have equal programs, whatever their variables are called and wherever their code stands.
"""

from __future__ import annotations

import builtins
import hashlib
import math
import operator
from collections.abc import Mapping
from typing import Any

import sympy
import torch
from torch.fx import GraphModule, Node

from . import outside
from ._torch_compat import FakeTensor, HigherOrderOperator, OpOverload, custom_implementation, opaque_type
from .code_digest import NoStableKey
from .loop_numbers import as_number
from .packed_layouts import PACKED_BY_CPU, rows_in_block
from .randomness import draw_key, is_keyed
from .sizes import SYMBOLIC, bound_offset
from .subgraphs import subgraph
from .table import FOREIGN

# Libraries of operators whose meaning is torch's, or is written in our own tables.
_NAMESPACES = {"aten", "prims", "prim", "quantized", "quantized_decomposed", "c10d", "_c10d_functional", "_dtensor"}
_SCALAR = (bool, int, float, *SYMBOLIC)
_PLAIN = (str, bool, int, float, complex, torch.dtype, torch.device, torch.layout, torch.memory_format, type(None))
_FUNCTIONS = {
    function: f"{module.__name__}.{name}"
    for module in (builtins, math, operator)
    for name, function in vars(module).items()
    if callable(function) and not isinstance(function, type)
}
_FUNCTIONS |= {getattr(torch, name): f"torch.{name}" for name in dir(torch) if name.startswith("sym_")}
_FUNCTIONS |= {draw_key: "draw_key", as_number: "as_number"}
# Stands for a size that has no number, as some strides have none.
_UNKNOWN = "?"


def canonical(graph_module: GraphModule, sizes: Mapping[sympy.Symbol, int | float]) -> list[str]:
    """Write one line for each node of a graph that `prepare` gave, with `sizes` in the place of its symbols.

    Raises NoStableKey where equal texts might stand for different programs.
    """
    return _Writer(graph_module, sizes).lines()


def written_nodes(graph_module: GraphModule, sizes: Mapping[sympy.Symbol, int | float]) -> list[Node]:
    """Return the nodes that the lines of `canonical` stand for, in their order."""
    writer = _Writer(graph_module, sizes)
    return [node for node in graph_module.graph.nodes if not writer.is_number(node)]


def describe_tensor(tensor: torch.Tensor, sizes: Mapping[sympy.Symbol, int | float]) -> dict[str, Any]:
    """Return a fake tensor's dtype, size, stride and device as plain data, with `sizes` in the place of symbols."""
    bound = _Numbers(sizes)
    return {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "size": [bound(size) for size in tensor.shape],
        "stride": [bound(size) for size in tensor.stride()],
        "device": tensor.device.type,
    }


class _Numbers:
    """The values of symbolic numbers; a symbol that has no number stays a question mark."""

    def __init__(self, sizes: Mapping[sympy.Symbol, int | float]):
        self.sizes = {symbol: sympy.sympify(size) for symbol, size in sizes.items()}
        self._known: dict[Any, Any] = {}

    def __call__(self, value: Any) -> Any:
        if not isinstance(value, SYMBOLIC):
            return value
        expression = value.node.expr
        if expression not in self._known:
            bound = expression.xreplace(self.sizes)
            if bound.is_number or bound in (sympy.true, sympy.false):
                kind = int if isinstance(value, torch.SymInt) else float if isinstance(value, torch.SymFloat) else bool
                self._known[expression] = kind(bound)
            else:
                self._known[expression] = _UNKNOWN
        return self._known[expression]


class _Writer:
    """Writes one graph; the graphs in it are written by others, with the same numbers."""

    def __init__(self, graph_module: GraphModule, sizes: Mapping[sympy.Symbol, int | float]):
        self._graph_module = graph_module
        self._sizes = sizes
        self._number = _Numbers(sizes)
        self._names: dict[Node, str] = {}

    def lines(self) -> list[str]:
        found = []
        for node in self._graph_module.graph.nodes:
            value = node.meta.get("val")
            scalar = self._number(value) if isinstance(value, _SCALAR) else None
            if self.is_number(node):
                self._names[node] = str(scalar)  # sizes become numbers in the arguments of their users
                continue
            name = f"%{len(self._names)}" if scalar is None else str(scalar)
            self._names[node] = name
            found.append(f"{name} = {self._operation(node)}{self._value(value)}")
        return found

    def is_number(self, node: Node) -> bool:
        """Say whether a node computes a number, which has no line: it stands in the arguments of its users."""
        value = node.meta.get("val")
        return node.op == "call_function" and isinstance(value, _SCALAR) and self._number(value) is not None

    def _operation(self, node: Node) -> str:
        if node.op in ("placeholder", "output"):
            return f"{node.op} {self._argument(node.args) if node.op == 'output' else ''}"
        if node.op == "get_attr":
            return self._attribute(node)
        if node.op != "call_function":
            raise NoStableKey(f"a node {node.op}")
        keyed = "keyed " if is_keyed(node) else ""
        return f"{keyed}{self._target(node.target)} {self._argument(node.args)} {self._argument(node.kwargs)}"

    def _attribute(self, node: Node) -> str:
        if (inner := subgraph(node)) is not None:
            return "graph {" + "; ".join(_Writer(inner, self._sizes).lines()) + "}"
        value: Any = getattr(self._graph_module, str(node.target), None)
        if type(value) not in (torch.Tensor, torch.nn.Parameter) or value.layout != torch.strided:
            raise NoStableKey(f"a constant of the type {type(value).__name__}")
        return f"constant {value.dtype}{list(value.shape)}{list(value.stride())} {_digest(value)}"

    def _target(self, target: Any) -> str:
        if isinstance(target, OpOverload):
            if (lowering := outside.find(target)) is not None:
                return f"{target} by {lowering.digest()}"
            schema = target._schema
            known = schema.name.partition("::")[0] in _NAMESPACES or schema.name in FOREIGN
            if not known and custom_implementation(target) is None:
                raise NoStableKey(f"the operator {target}, whose meaning another library can change")
            return f"{target} in blocks of {rows_in_block()}" if target in PACKED_BY_CPU else str(target)
        if isinstance(target, HigherOrderOperator):
            return f"higher order {target}"
        if target in _FUNCTIONS:
            return _FUNCTIONS[target]
        raise NoStableKey(f"a call of {getattr(target, '__qualname__', type(target).__name__)}")

    def _argument(self, argument: Any) -> str:
        if isinstance(argument, Node):
            if self._names[argument] == _UNKNOWN:
                raise NoStableKey(f"the size {argument}, which has no number")
            return self._names[argument]
        if isinstance(argument, tuple | list):
            inner = ", ".join(map(self._argument, argument))
            return f"({inner})" if isinstance(argument, tuple) else f"[{inner}]"
        if isinstance(argument, dict):
            return "{" + ", ".join(f"{key}: {self._argument(value)}" for key, value in argument.items()) + "}"
        if isinstance(argument, slice):
            return f"slice{self._argument((argument.start, argument.stop, argument.step))}"
        if isinstance(argument, OpOverload):
            return self._target(argument)
        if type(argument) in _PLAIN:
            return repr(argument)
        raise NoStableKey(f"an argument of the type {type(argument).__name__}")

    def _value(self, value: Any) -> str:
        if isinstance(value, torch.Tensor):
            number = self._number
            shape = [number(size) for size in value.shape]
            if type(value) is FakeTensor and value.layout == torch.sparse_coo:
                return f": {value.dtype}{shape}{value.layout} {value.device}"
            if type(value) not in (torch.Tensor, FakeTensor) or value.layout != torch.strided:
                raise NoStableKey(f"a tensor of the type {type(value).__name__}, {value.layout}")
            stride = [number(size) for size in value.stride()]
            offset = bound_offset(value, number.sizes)
            # Without a number for one stride, the tensor is taken as contiguous.
            strides = "contiguous" if _UNKNOWN in stride else stride
            return f": {value.dtype}{shape}{strides}+{offset} {value.device}"
        if isinstance(value, tuple | list):
            return f": ({', '.join(map(self._value, value))})"
        if value is None:
            return ""
        if isinstance(value, _SCALAR):
            return f": {self._number(value)!r}"
        if (opaque := opaque_type(value)) is not None:
            return f": a {opaque}"  # it is passed on; what a program takes of it stands in collectives' arguments
        raise NoStableKey(f"a value of the type {type(value).__name__}")


def _digest(tensor: torch.Tensor) -> str:
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return hashlib.sha256(plain.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
