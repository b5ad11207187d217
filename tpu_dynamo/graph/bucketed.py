"""A graph of changing sizes at buckets: one program serves all sizes up to its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sympy
import torch

from tpu_dynamo_lowering import Extent, PaddedGraph, Unproven, pad_sizes

from .._torch_compat import size_facts
from ..artifacts import record_event
from ..buckets import buckets_of
from ..options import Options
from ..session import session
from .padding import Place, count, place
from .prepare import BoxedCallable, PreparedGraph

log = logging.getLogger("tpu_dynamo")

Lengths = Mapping[sympy.Symbol, int]
Compile = Callable[[PreparedGraph], BoxedCallable]


@dataclass
class SavedValues:
    """Where the true elements are in what a padded forward graph saves for its backward graph, which gets it as it is.

    extents: by the names of the values in both graphs, dimensions at some bucket.
    """

    extents: dict[str, tuple[Extent, ...]] = field(default_factory=dict)

    def at(self, sizes: Mapping[sympy.Symbol, int | float]) -> dict[str, tuple[Extent, ...]]:
        """Return the dimensions at these sizes of the bucket."""

        def bound(extent: Extent) -> Extent:
            return tuple(replace(part, size=count(part.true, sizes)) if part.padded else part for part in extent)

        return {name: tuple(map(bound, extents)) for name, extents in self.extents.items()}


class Padding:
    """How one graph is padded: its programs by bucket. Not for several threads at a time.

    saved: shared by the forward and the backward graph of one graph of Dynamo's. compile: makes of a graph without
    symbols what runs it. refused: why the graph cannot be padded, once that is known.
    """

    def __init__(self, graph: PreparedGraph, options: Options, saved: SavedValues, compile: Compile):
        self._graph = graph
        self._table = options.buckets
        self._saved = saved
        self._compile = compile
        self._names = [node.name for node in graph.module.graph.find_nodes(op="placeholder")]
        self._programs: dict[tuple[int | float, ...], _Program] = {}
        self.refused: Unproven | None = None

    def run_at(self, sizes: Lengths) -> BoxedCallable | None:
        """Return what runs the graph at these true sizes by a program of a bucket; None where there is none.

        Raises what compiling raises.
        """
        program = self.program_for(sizes)
        return None if program is None else program.at(sizes)

    def program_for(self, sizes: Lengths) -> _Program | None:
        """Return the program of these sizes' bucket, compiled if it is new; None where there is none.

        Raises what compiling raises.
        """
        if self.refused is not None:
            return None
        bucket = self._bucket(sizes)
        if bucket is None:
            session().statistics.count("buckets", "sizes for which the larger graph is another")
            return None
        key = tuple(bucket.values())
        if key not in self._programs:
            try:
                self._programs[key] = self._make(bucket)
            except Unproven as unproven:
                self._refuse(unproven)
                return None
        return self._programs[key]

    def unpadded(self, run: BoxedCallable, sizes: Lengths) -> BoxedCallable:
        """Return what runs a program of the true sizes on what a padded forward graph saved."""
        extents = self._saved.at(self._bucket(sizes) or sizes)
        places = {i: place(extents[name], sizes) for i, name in enumerate(self._names) if name in extents}
        places = {i: each for i, each in places.items() if each.shape != each.true}
        if not places:
            return run

        def trimmed(inputs: list[Any]) -> list[Any]:
            for i, each in places.items():
                if tuple(inputs[i].shape) == each.shape:
                    inputs[i] = each.taken(inputs[i]).contiguous()
            return run(inputs)

        return trimmed

    def _bucket(self, sizes: Lengths) -> dict[sympy.Symbol, int | float] | None:
        """Return the sizes of the bucket; None where the graph is right for the true ones alone."""
        facts = size_facts(self._graph.module)
        bucket: dict[sympy.Symbol, int | float] = {}
        for symbol, size in sizes.items():
            buckets = buckets_of(self._table, facts.names.get(symbol, "")) if isinstance(size, int) else None
            bucket[symbol] = size if buckets is None else buckets.of(size, facts.largest.get(symbol))
        return bucket if facts.hold(bucket) else None

    def _make(self, bucket: Mapping[sympy.Symbol, int | float]) -> _Program:
        facts = size_facts(self._graph.module)
        changing = [s for s in bucket if buckets_of(self._table, facts.names.get(s, "")) and isinstance(bucket[s], int)]
        padded = pad_sizes(self._graph.module, bucket, changing, self._saved.at(bucket))
        returned = self._graph.returned if self._graph.role == "forward" else None
        if returned is not None:
            self._save(padded, returned)
        name = self._graph.artifacts(bucket).name
        graph = replace(self._graph, name=name, module=padded.module, eager=padded.module)
        run = self._compile(graph)
        session().statistics.count("buckets", "padded")
        record_event("bucket", lambda: {"graph": self._graph.name, "sizes": self._described(bucket)})
        return _Program(run, padded, returned)

    def _save(self, padded: PaddedGraph, returned: int) -> None:
        outputs = self._graph.module.graph.output_node().args[0]
        for node, extents in zip(outputs[returned:], padded.outputs[returned:], strict=True):  # pyright: ignore
            if isinstance(node, torch.fx.Node) and extents is not None:
                self._saved.extents[node.name] = extents

    def _described(self, sizes: Mapping[sympy.Symbol, int | float]) -> dict[str, int | float]:
        names = size_facts(self._graph.module).names
        return {names.get(symbol, str(symbol)): size for symbol, size in sizes.items()}

    def _refuse(self, unproven: Unproven) -> None:
        self.refused = unproven
        problem = unproven.problem
        session().statistics.count("buckets", f"{problem.operation}: {problem.why}")
        record_event("not padded", lambda: {"graph": self._graph.name, "problems": [problem.as_dict()]})
        log.warning("graph %s is compiled for each size, not for buckets: %s", self._graph.name, problem)


class _Program:
    """A program of one bucket."""

    def __init__(self, run: BoxedCallable, padded: PaddedGraph, returned: int | None):
        self._run = run
        self._padded = padded
        self._cut = len(padded.outputs) if returned is None else returned

    def at(self, sizes: Lengths) -> BoxedCallable:
        """Return what runs the program on tensors of these true sizes."""
        padded, run = self._padded, self._run
        lengths = torch.tensor([int(sizes[symbol]) for symbol in padded.symbols], device="cpu")
        inputs = [(i, place(extents, sizes)) for i, extents in enumerate(padded.inputs) if extents is not None]
        inputs = [(i, each) for i, each in inputs if each.shape != each.true]
        outputs = [
            (i, each, _strides(padded.strides[i], sizes))
            for i, extents in enumerate(padded.outputs[: self._cut])
            if extents is not None and (each := place(extents, sizes)).shape != each.true
        ]
        numbers = [(i, count(expression, sizes)) for i, expression in padded.numbers.items()]
        calls = session().statistics

        def padded_call(given: list[Any]) -> list[Any]:
            for i, each in inputs:
                if tuple(given[i].shape) != each.shape:  # else a padded forward graph saved it
                    given[i] = each.put(given[i])
            results = run([*given, lengths])
            for i, each, strides in outputs:
                results[i] = _true(results[i], each, strides)
            for i, number in numbers:
                results[i] = number
            calls.count("buckets", "calls")
            return results

        return padded_call


def _strides(expressions: Sequence[sympy.Expr] | None, sizes: Lengths) -> list[int] | None:
    if expressions is None or any(e.free_symbols - sizes.keys() for e in expressions):
        return None
    return [count(expression, sizes) for expression in expressions]


def _true(tensor: torch.Tensor, where: Place, strides: list[int] | None) -> torch.Tensor:
    """Return the true elements of a result, with eager's strides, in memory of their own."""
    taken = where.taken(tensor)
    if strides is None:
        return taken.contiguous()
    result = torch.empty_strided(taken.shape, strides, dtype=taken.dtype, device=taken.device)
    return result.copy_(taken)
