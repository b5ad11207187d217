"""A graph with numbers for its sizes as plain data for JSON, and as a graph again: operators by name, no code."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import sympy
import torch
from torch.fx import Graph, GraphModule, Node

from ._torch_compat import HigherOrderOperator, OpOverload, fake_mode, graph_module_of, overloads_of
from .randomness import draw_key, is_keyed, mark_keyed
from .sizes import bind_sizes
from .source_lines import user_line
from .subgraphs import subgraph

Data = dict[str, Any]

# Functions that graphs call beside operators.
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {"getitem": operator.getitem, "draw_key": draw_key}
_NAMES = {function: name for name, function in _FUNCTIONS.items()}
# The types of arguments that PyTorch names, as `torch.float32`.
_NAMED = (torch.dtype, torch.layout, torch.memory_format)


class NotData(ValueError):
    """Something in a graph that cannot be written as data, or data that is no graph."""


def graph_to_data(
    graph_module: GraphModule, sizes: Mapping[sympy.Symbol, int | float]
) -> tuple[Data, dict[str, torch.Tensor]]:
    """Return a prepared graph at these sizes as data for JSON, and its constants by name. Raises NotData."""
    constants: dict[str, torch.Tensor] = {}
    return _to_data(bind_sizes(graph_module, sizes, fake_mode()), constants), constants


def _to_data(module: GraphModule, constants: dict[str, torch.Tensor]) -> Data:
    nodes = []
    for node in module.graph.nodes:
        found: Data = {"name": node.name, "op": node.op}
        if (inner := subgraph(node)) is not None:
            found["graph"] = _to_data(inner, constants)
        elif node.op == "get_attr":
            value = getattr(module, str(node.target))
            if type(value) not in (torch.Tensor, torch.nn.Parameter):
                raise NotData(f"a constant of the type {type(value).__name__}")
            found["constant"] = f"constant{len(constants)}"
            constants[found["constant"]] = value.detach().cpu().resolve_conj().resolve_neg()
        elif node.op == "call_function":
            found["target"] = _target_name(node.target)
        elif node.op not in ("placeholder", "output"):
            raise NotData(f"a node {node.op}")
        if node.op in ("call_function", "output"):
            found["args"], found["kwargs"] = _argument(node.args), _argument(node.kwargs)
        if "val" in node.meta and node.op != "output":
            found["value"] = _value(node.meta["val"], node.meta.get("storage_offset"))
        if (line := user_line(node)) is not None:
            found["line"] = [line.file, line.line, line.function or ""]
        if is_keyed(node):
            found["keyed"] = True
        nodes.append(found)
    return {"nodes": nodes}


def _target_name(target: Any) -> str:
    if isinstance(target, OpOverload):
        return f"{target._schema.name}.{target._overloadname}"
    if isinstance(target, HigherOrderOperator):
        return f"higher_order::{target}"
    if target in _NAMES:
        return f"function::{_NAMES[target]}"
    raise NotData(f"a call of {getattr(target, '__qualname__', type(target).__name__)}")


def _argument(value: Any) -> Any:
    if isinstance(value, Node):
        return {"node": value.name}
    if isinstance(value, tuple):
        return {"tuple": [_argument(each) for each in value]}
    if isinstance(value, list):
        return [_argument(each) for each in value]
    if isinstance(value, dict):
        return {"dict": {str(key): _argument(each) for key, each in value.items()}}
    if isinstance(value, slice):
        return {"slice": [_argument(each) for each in (value.start, value.stop, value.step)]}
    if isinstance(value, _NAMED):
        return {"torch": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": value.type}
    if isinstance(value, complex):
        return {"complex": [repr(value.real), repr(value.imag)]}
    if isinstance(value, float):
        return {"float": repr(value)}  # also nan and infinities, which JSON has not
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, OpOverload):
        return {"operator": _target_name(value)}
    raise NotData(f"an argument of the type {type(value).__name__}")


def _value(value: Any, offset: int | None) -> Any:
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided:
            raise NotData(f"a tensor of the layout {value.layout}")
        shape, stride = list(map(int, value.shape)), list(map(int, value.stride()))
        dtype = str(value.dtype).removeprefix("torch.")
        return {"shape": shape, "stride": stride, "dtype": dtype, "device": value.device.type, "offset": offset or 0}
    if isinstance(value, tuple | list):
        return {"tuple": [_value(each, None) for each in value]}
    if value is None or type(value) in (bool, int):
        return {"plain": value}
    if isinstance(value, float):
        return {"plain": {"float": repr(value)}}
    raise NotData(f"a value of the type {type(value).__name__}")


def graph_from_data(data: Data, constants: Mapping[str, torch.Tensor]) -> GraphModule:
    """Return the graph that `graph_to_data` wrote, ready for lowering.

    Operators are looked up by name and nothing is evaluated. Raises NotData for what is no graph, and for an operator
    that no library that is imported here defines.
    """
    try:
        with fake_mode() as mode:
            return _from_data(data, constants, mode)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise NotData(f"the graph is damaged: {type(error).__name__}: {error}") from error


def _from_data(data: Data, constants: Mapping[str, torch.Tensor], mode: Any) -> GraphModule:
    owner = torch.nn.Module()
    graph = Graph()
    nodes: dict[str, Node] = {}
    for found in data["nodes"]:
        name, op = found["name"], found["op"]
        if op == "placeholder":
            node = graph.placeholder(name)
        elif op == "get_attr":
            attribute = f"_{len(nodes)}"
            if "graph" in found:
                owner.add_module(attribute, _from_data(found["graph"], constants, mode))
            else:
                owner.register_buffer(attribute, constants[found["constant"]])
            node = graph.create_node("get_attr", attribute, name=name)
        elif op == "call_function":
            args, kwargs = _read(found["args"], nodes), _read(found["kwargs"], nodes)
            node = graph.create_node("call_function", _target(found["target"]), args, kwargs, name=name)
        elif op == "output":
            node = graph.output(_read(found["args"], nodes)[0])
        else:
            raise NotData(f"a node {op!r}")
        if "value" in found:
            node.meta["val"] = _fake(found["value"])
        if "line" in found:
            file, line, function = found["line"]
            node.meta["stack_trace"] = f'  File "{file}", line {int(line)}, in {function or "unknown"}\n'
        if found.get("keyed"):
            mark_keyed(node)
        nodes[name] = node
    return graph_module_of(owner, graph)


def _target(name: str) -> Any:
    kind, _, rest = name.partition("::")
    if kind == "function":
        return _FUNCTIONS[rest]
    if kind == "higher_order":
        return getattr(torch.ops.higher_order, rest)
    schema, _, overload = name.rpartition(".")
    for found in overloads_of(schema):
        if found._overloadname == overload:
            return found
    raise NotData(f"the operator {name} is not defined here: import the library that defines it")


def _read(value: Any, nodes: Mapping[str, Node]) -> Any:
    if isinstance(value, list):
        return [_read(each, nodes) for each in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "node":
        return nodes[inner]
    if kind == "tuple":
        return tuple(_read(each, nodes) for each in inner)
    if kind == "dict":
        return {key: _read(each, nodes) for key, each in inner.items()}
    if kind == "slice":
        return slice(*(_read(each, nodes) for each in inner))
    return _read_scalar(kind, inner)


def _read_scalar(kind: str, inner: Any) -> Any:
    if kind == "float":
        return float(inner)
    if kind == "complex":
        return complex(float(inner[0]), float(inner[1]))
    if kind == "device":
        return torch.device(inner)
    if kind == "operator":
        return _target(inner)
    found = getattr(torch, inner) if kind == "torch" else None
    if not isinstance(found, _NAMED):
        raise NotData(f"an argument {kind} {inner!r}")
    return found


def _fake(value: Any) -> Any:
    if "tuple" in value:
        return tuple(map(_fake, value["tuple"]))
    if "plain" in value:
        return _read(value["plain"], {})
    shape, stride, offset = value["shape"], value["stride"], value["offset"]
    dtype, device = _read_scalar("torch", value["dtype"]), value["device"]
    if not offset:
        return torch.empty_strided(shape, stride, dtype=dtype, device=device)
    needed = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) + 1
    return torch.empty(needed, dtype=dtype, device=device).as_strided(shape, stride, offset)
