"""The check of one recorded call of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.fx import Node

from tpu_dynamo_lowering import Functional, UnsupportedOp, functional, user_line, with_outputs

from ..cache.forbidden import CompileForbidden
from ..cache.signature import input_names
from ..errors import CompilationFailed
from ..options import Options
from .bisecting import Found, find_fault
from .comparing import Comparison, compare
from .findings import CheckedGraph, CheckedResult, Fault, NonFinite
from .recording import RecordedCall
from .reference import CannotRun, Reference, as_promised, operator_name
from .repro import write_script
from .stretches import Outcome, Stretches


def check_call(call: RecordedCall, options: Options, double: bool = False) -> CheckedGraph:
    """Compare a call's results with those of eager operators on the same inputs; find the operator at fault.

    double: compute everything in float64 too, not only what is not near eager's.
    """
    graph = call.graph
    whole = functional(with_outputs(graph.module, call.gradients), call.sizes)

    def checked(**found: Any) -> CheckedGraph:
        return CheckedGraph(graph.name, graph.role, graph.described, len(whole.operators), **found)

    if graph.span:
        return checked(unchecked="its collectives need the other ranks, and one rank is checked by itself")
    values: dict[Node, Any] = dict(zip(whole.inputs, call.inputs, strict=True))
    by_name = {node.name: node for each in whole.operators for node in each.nodes}
    values |= {by_name[name]: value for name, value in call.drawn.items()}
    named = _results(call, whole)
    nodes = list(dict.fromkeys(node for _, node, _ in named))
    eager_run = Reference(whole)
    try:
        eager = eager_run.run(whole.operators, values, nodes)
        named = [each for each in named if as_promised(each[1], eager[each[1]])]
        exact = _in_float64(whole, values, named, eager, double)
    except CannotRun as why:
        return checked(unchecked=str(why))
    results, wrong = [], {}
    for name, node, ours in named:
        comparison = compare(ours, eager[node], exact.get(node))
        results.append(CheckedResult(name, user_line(node), comparison))
        if not comparison.within:
            wrong.setdefault(node, (comparison, ours))
    stretches = Stretches(graph, whole, options)
    found: dict[str, Any] = {"results": tuple(results)}
    try:
        if not all(_is_finite(each) for _, node, ours in named for each in (ours, eager[node])):
            found["nonfinite"] = _origin_of_nonfinite(stretches, eager_run, values)
        if wrong:
            found |= _search(stretches, values, eager, wrong)
    except (CannotRun, UnsupportedOp, CompilationFailed, CompileForbidden) as why:
        # Results differ: that is a finding, though the operator stays unknown.
        first = next(iter(wrong.values()))[0] if wrong else None
        found["unchecked"] = f"the operator at fault was not looked for to the end: {why}"
        if first is not None:
            found["fault"] = Fault("together", tuple(map(operator_name, whole.operators)), None, first)
    return checked(**found)


def _results(call: RecordedCall, whole: Functional) -> list[tuple[str, Node, torch.Tensor]]:
    """Return the call's tensors that the graph computed: name, node and ours."""
    graph = call.graph
    inputs = input_names(graph.module, graph.frame.inputs)
    found = []
    for i, (node, ours) in enumerate(zip(whole.outputs, [*call.outputs, *call.gradients.values()], strict=True)):
        if isinstance(node, Node) and isinstance(ours, torch.Tensor) and node.op == "call_function":
            found.append((_output_name(call, inputs, i), node, ours))
    return found + [(inputs[position], node, call.written[position]) for position, node in whole.writes]


def _output_name(call: RecordedCall, inputs: Sequence[str], i: int) -> str:
    graph = call.graph
    if i >= len(call.outputs):
        node = list(call.gradients)[i - len(call.outputs)]
        return f"gradient of {', '.join(inputs[position] for position, name in graph.gradients if name == node)}"
    if graph.role == "backward":
        # AOTAutograd returns the gradients of the forward graph's inputs, in their order.
        captured = graph.frame.inputs
        return f"gradient of {captured[i]}" if len(captured) == len(call.outputs) else f"gradient {i}"
    if i < len(graph.output_names):
        return graph.output_names[i]
    kept = graph.returned is not None and i >= graph.returned
    return f"saved for the backward {i}" if kept else f"output {i}"


def _in_float64(
    whole: Functional,
    values: dict[Node, Any],
    named: Sequence[tuple[str, Node, torch.Tensor]],
    eager: dict[Node, Any],
    double: bool,
) -> dict[Node, Any]:
    """Compute in float64 the results that are not near eager's, or all. Raises CannotRun."""
    wanted = [node for _, node, ours in named if double or not compare(ours, eager[node]).within]
    if not wanted:
        return {}
    return Reference(whole, double=True).run(whole.operators, values, list(dict.fromkeys(wanted)))


def _search(
    stretches: Stretches,
    values: dict[Node, Any],
    eager: dict[Node, Any],
    wrong: dict[Node, tuple[Comparison, torch.Tensor]],
) -> dict[str, Any]:
    """Return the fault behind results that are wrong, or that rounding was amplified."""
    whole = stretches.whole
    outcome = Outcome(eager, {n: ours for n, (_, ours) in wrong.items()}, {n: c for n, (c, _) in wrong.items()})
    fault = find_fault(stretches, whole.operators, values, outcome)
    if fault is not None:
        return {"fault": _described(fault), "write_repro": lambda path: _write(stretches, fault, path)}
    if stretches.outcome(whole.operators, values).wrong:
        return {"amplified": True}
    return {"fault": Fault("around", (), None, next(iter(wrong.values()))[0])}


def _described(found: Found) -> Fault:
    line = next(filter(None, (user_line(each.node) for each in found.operators)), None)
    return Fault(found.kind, tuple(map(operator_name, found.operators)), line, found.comparison)


def _write(stretches: Stretches, found: Found, path: Path) -> Path:
    outputs = stretches.whole.read_outside(found.operators)
    part = stretches.whole.stretch(found.operators, [node for node in outputs if node not in found.values])
    return write_script(path, part, [found.values[node] for node in part.inputs], str(_described(found)))


def _origin_of_nonfinite(stretches: Stretches, eager: Reference, values: dict[Node, Any]) -> NonFinite | None:
    """Tell which operator makes nan or infinities first in eager, and whether ours of the same operands does too."""
    operator = eager.nonfinite
    if operator is None:
        return None
    whole = stretches.whole
    before = whole.operators[: whole.operators.index(operator)]
    read = [node for node in operator.node.all_input_nodes if node.op == "call_function"]
    operands = Reference(whole).run(before, values, read)
    ours = stretches.ours([operator], {**values, **operands}, list(operator.values))
    too = not all(map(_is_finite, ours.values()))
    return NonFinite("both" if too else "eager", operator_name(operator), user_line(operator.node))


def _is_finite(tensor: torch.Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
