"""options={"fallback": "operator"}: a graph as compiled parts, and calls of operators between them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.fx import Node
from torch.fx.node import map_arg

from tpu_dynamo_lowering import CutUp, OperatorCall, Part, cut, promised, without_lowering

from .._torch_compat import pytree
from ..device import NAME as DEVICE
from ..errors import WrongFakeKernel
from ..options import Options
from ..session import session
from .prepare import BoxedCallable, PreparedGraph, Sizes

Values = dict[Node, Any]


def part_of(graph: PreparedGraph, part: Part, whole: CutUp, number: int) -> PreparedGraph:
    """Return a part of a graph as a graph that is compiled for itself."""
    static = {whole.inputs[position] for position in graph.static}
    return replace(
        graph,
        name=f"{graph.name}-part{number}",
        # All results are read as they are in eager, by other parts and by operators; a backward's may not be.
        role="inference",
        module=part.module,
        eager=part.module,
        static={i for i, node in enumerate(part.inputs) if node in static},
        returned=None,
        forms={},
    )


def compiled_parts(graph: PreparedGraph, sizes: Sizes, options: Options) -> list[tuple[PreparedGraph, Sizes]]:
    """Return what is compiled of a graph with these options, each with the numbers for its symbols.

    That is the graph itself, or its parts between operators that run by themselves.
    """
    calls = without_lowering(graph.module) if options.fallback == "operator" else {}
    if not calls:
        return [(graph, sizes)]
    whole = cut(graph.module, sizes, calls)
    return [(part_of(graph, step, whole, i), {}) for i, step in enumerate(whole.steps) if isinstance(step, Part)]


class CutGraph:
    """A graph that is run in steps."""

    def __init__(self, whole: CutUp, steps: Sequence[RunPart | RunOperator]):
        self._boxed_call = True  # as in EagerGraph
        self._whole = whole
        self._steps = steps
        kept = {each for each in whole.outputs if isinstance(each, Node)}
        self._read_last: list[list[Node]] = []
        for step in reversed(steps):
            self._read_last.insert(0, [node for node in step.reads if node not in kept])
            kept |= set(step.reads)

    def __call__(self, inputs: list[Any]) -> list[Any]:
        """Run on the graph's inputs; empties the list."""
        values: Values = dict(zip(self._whole.inputs, inputs, strict=True))
        inputs.clear()
        for step, read_last in zip(self._steps, self._read_last, strict=True):
            step.run(values)
            for node in read_last:
                values.pop(node, None)
        return [values[each] if isinstance(each, Node) else each for each in self._whole.outputs]


class RunPart:
    """The step that runs a compiled part."""

    def __init__(self, part: Part, run: BoxedCallable):
        self._part = part
        self._run = run
        self.reads = part.inputs

    def run(self, values: Values) -> None:
        """Compute the part's results from values that are there, and add them."""
        results = self._run([values[node] for node in self._part.inputs])
        values.update(zip(self._part.outputs, results, strict=True))


class RunOperator:
    """The step that calls an operator by itself: on the CPU, or by its kernel for the device."""

    def __init__(self, call: OperatorCall, on_device: bool):
        self._call = call
        self._on_device = on_device
        self.reads = tuple(call.node.all_input_nodes)
        line = call.problem.line
        place = f" at {Path(line.file).name}:{line.line}" if line is not None else ""
        self._named = f"{_name(call.node)}{place}"

    def run(self, values: Values) -> None:
        """Call the operator on values that are there, and add its results. Raises WrongFakeKernel."""
        node = self._call.node
        started = time.perf_counter()
        args, kwargs = map_arg((node.args, node.kwargs), lambda each: self._here(values[each]))
        with torch.no_grad():
            found = node.target(*args, **kwargs)  # pyright: ignore[reportCallIssue]
        found = self._as_promised(found)
        tensors = [t for t in pytree.tree_leaves((args, kwargs, found)) if isinstance(t, torch.Tensor)]
        nbytes = sum(tensor.nbytes for tensor in tensors)
        session().statistics.count_operator(self._named, nbytes, time.perf_counter() - started)
        values[node] = found
        for taker in self._call.taken:
            values[taker] = found[taker.args[1]]

    def _here(self, value: Any) -> Any:
        """Return a tensor where the operator is called: activations of a CPU graph may have stayed on the device."""
        moves = isinstance(value, torch.Tensor) and value.device.type == DEVICE and not self._on_device
        return value.cpu() if moves else value

    def _as_promised(self, found: Any) -> Any:
        """Return results in the memory order that the fake kernel gave them, for which the next part is compiled."""
        leaves, structure = pytree.tree_flatten(found)
        expected = iter(promised(self._call.node))
        for i, leaf in enumerate(leaves):
            if not isinstance(leaf, torch.Tensor):
                continue
            fake = next(expected, None)
            if fake is None or (fake.shape, fake.dtype) != (leaf.shape, leaf.dtype):
                raise WrongFakeKernel(self._named, leaf, fake)
            if fake.stride() != leaf.stride() and leaf.numel():
                leaves[i] = torch.empty_strided(leaf.shape, fake.stride(), dtype=leaf.dtype, device=leaf.device)
                leaves[i].copy_(leaf)
        return pytree.tree_unflatten(leaves, structure)


def _name(node: Node) -> str:
    """Return the operator of a call; of one that writes to copies of its arguments, the operator that writes."""
    return str(node.args[0] if str(node.target).startswith("auto_functionalized") else node.target)
