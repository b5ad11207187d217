"""Names, guards and sizes of the code that Dynamo and AOTAutograd are compiling."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import CO_VARARGS, CO_VARKEYWORDS
from types import CodeType
from typing import Any

import sympy
import torch
from torch._guards import TracingContext
from torch.fx import GraphModule

_OWN_FOLDER = os.path.dirname(os.path.dirname(__file__)) + os.sep


def frame_function() -> str:
    """Return the qualified name of the function that Dynamo compiles, as `Model.forward`; "" if it compiles none."""
    context = TracingContext.try_get()
    traced = context.traced_code if context is not None else []
    if traced and _wraps(traced[0]):
        # The functions that it inlined follow, each after those that it calls.
        inlined = [code for code in reversed(traced) if not _wraps(code)]
        traced = [code for code in inlined if code.co_name == "forward"] or inlined
    return traced[0].co_qualname if traced else ""


def _wraps(code: CodeType) -> bool:
    """Return True for a wrapper: Dynamo's, as around nn.Sequential, ours, or a decorator's, which takes anything."""
    takes_anything = CO_VARARGS | CO_VARKEYWORDS
    own = "/torch/_dynamo/" in code.co_filename or code.co_filename.startswith(_OWN_FOLDER)
    return own or code.co_flags & takes_anything == takes_anything


def guards() -> list[str]:
    """Return the guards of the frame that Dynamo compiles: kind and source, without values, which are not yet known."""
    context = TracingContext.try_get()
    if context is None:
        return []
    everything = ((guard.create_fn_name(), guard.name) for guard in context.guards_context.dynamo_guards)
    # There are hundreds of guards inside of modules, which say little: they differ where the graph does.
    found = {f"{kind} {name}" for kind, name in everything if name.startswith("L[") and "._" not in name}
    # Names that Dynamo invents can have addresses in them.
    return sorted({re.sub(r"\d{6,}", "#", guard) for guard in found})


def shape_guards() -> list[str]:
    """Return conditions on the sizes of the frame that Dynamo compiles, and their ranges, in terms of its variables."""
    context = TracingContext.try_get()
    shapes = context.fake_mode.shape_env if context is not None and context.fake_mode is not None else None
    if shapes is None:
        return []
    names = {str(symbol): sources[0].name for symbol, sources in shapes.var_to_sources.items() if sources}

    def named(text: str) -> str:
        return re.sub(r"\b[a-z]+\d+\b", lambda match: str(names.get(match[0], match[0])), text)

    ranges = [f"{r.lower} <= {named(str(s))} <= {r.upper}" for s, r in shapes.var_to_range.items() if str(s) in names]
    return sorted({*ranges, *(named(str(guard.expr)) for guard in shapes.guards)})


@dataclass(frozen=True)
class SizeFacts:
    """Facts that Dynamo knows of the symbols of a graph.

    names: the Python expressions that they stand for, as `L['x'].size()[0]`. smallest, largest: the smallest and
    largest values that they may have, None where there is no bound. conditions: what must be true of them for the graph
    to be right.
    """

    names: Mapping[sympy.Symbol, str]
    smallest: Mapping[sympy.Symbol, int | None]
    largest: Mapping[sympy.Symbol, int | None]
    conditions: tuple[Any, ...]

    @property
    def equalities(self) -> dict[sympy.Expr, sympy.Expr]:
        """Expressions that are equal to simpler ones for all sizes of the graph, and those."""
        found: dict[sympy.Expr, sympy.Expr] = {}
        for condition in self.conditions:
            if isinstance(condition, sympy.Eq):
                sides: Any = condition.args
                simple, other = sorted(sides, key=lambda side: (not side.is_number, sympy.count_ops(side)))
                if simple.is_number or sympy.count_ops(other) > sympy.count_ops(simple):
                    found[other] = simple
        return found

    def hold(self, sizes: Mapping[sympy.Symbol, int | float]) -> bool:
        """Say whether the graph is right for these sizes."""
        return self.failing(sizes) is None

    def failing(self, sizes: Mapping[sympy.Symbol, int | float]) -> Any:
        """Return the first condition that these sizes do not meet; None if they meet all."""
        values = {symbol: sympy.sympify(size) for symbol, size in sizes.items()}
        return next((condition for condition in self.conditions if not _is_met(condition, values)), None)


def _is_met(condition: Any, values: Mapping[sympy.Symbol, Any]) -> bool:
    try:
        return condition.xreplace(values) != sympy.false
    except ZeroDivisionError:  # it divides by a size that would be zero
        return False


def size_facts(graph_module: GraphModule) -> SizeFacts:
    """Return what is known of a graph's symbols, from the environment in which they were made."""
    values = [node.meta.get("val") for node in graph_module.graph.find_nodes(op="placeholder")]
    leaves = [size for value in values if isinstance(value, torch.Tensor) for size in (*value.shape, *value.stride())]
    numbers = [v for v in (*values, *leaves) if isinstance(v, torch.SymInt)]
    if not numbers:
        return SizeFacts({}, {}, {}, ())
    shapes = numbers[0].node.shape_env
    names = {symbol: sources[0].name for symbol, sources in shapes.var_to_sources.items() if sources}
    smallest = {s: int(r.lower) if r.lower.is_Integer else None for s, r in shapes.var_to_range.items()}
    largest = {s: int(r.upper) if r.upper.is_Integer else None for s, r in shapes.var_to_range.items()}
    return SizeFacts(names, smallest, largest, tuple(guard.expr for guard in shapes.guards))


def graph_tensors(graph_module: GraphModule) -> list[torch.Tensor]:
    """Return the fake tensors among a graph's inputs and outputs."""
    graph = graph_module.graph
    nodes = [*graph.find_nodes(op="placeholder"), *graph.output_node().all_input_nodes]
    return [node.meta["val"] for node in nodes if isinstance(node.meta.get("val"), torch.Tensor)]


def size_hint(value: Any) -> int | float:
    """Return the number that a size had when its graph was traced; reading it adds no guard."""
    return value.node.hint if isinstance(value, torch.SymInt | torch.SymFloat) else value


def input_name(placeholder: torch.fx.Node) -> str:
    """Return Dynamo's Python expression for a graph input, such as `L['x']`."""
    name = getattr(getattr(placeholder, "_dynamo_source", None), "name", None)
    return name if isinstance(name, str) else placeholder.name
