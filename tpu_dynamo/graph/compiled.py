"""The callables that take a graph's place in AOTAutograd: compiled for one set of sizes, for each, or not at all."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from tpu_dynamo_lowering import OperatorCall, SizeSource, Unsupported, UnsupportedOp, cut, refused, without_lowering

from .._torch_compat import NotWritable, read_graph, unset_fake_temporarily, write_graph
from ..artifacts import next_name, record_unsupported
from ..options import Options
from ..session import session
from .bucketed import padding_of
from .cut import CutGraph, RunOperator, RunPart, part_of
from .moved_operations import move_operations
from .prepare import BoxedCallable, PreparedGraph, Sizes
from .saved_values import SavedValues
from .specialise import specialise
from .torch_entry import GraphRecord, SymbolicRecord

log = logging.getLogger("tpu_dynamo")

# How many sets of sizes a graph finds at once; what it compiled for others is kept by the pool of executables.
_SIZES_KNOWN = 4096


class EagerGraph:
    """A graph that runs in eager PyTorch because its author chose that over an error."""

    def __init__(self, graph_module: torch.fx.GraphModule):
        # AOTAutograd hands over its list of inputs, for us to empty: tensors are freed as early as possible. An
        # attribute of the instance, which survives Dynamo's wrapping of callables.
        self._boxed_call = True
        self._graph_module = graph_module

    def __call__(self, inputs: list[Any]) -> list[Any]:
        """Run on the graph's inputs; empties the list."""
        outputs = self._graph_module(*inputs)
        inputs.clear()
        return list(outputs)


class CompiledGraph:
    """A graph without symbolic sizes, compiled.

    direct: its one executable, which every call runs whatever modes PyTorch is in. record: how other processes find
    it; None where they cannot.
    """

    def __init__(self, direct: BoxedCallable, record: GraphRecord | None = None):
        self._boxed_call = True
        self.direct = direct
        self.record = record

    def __call__(self, inputs: list[Any]) -> list[Any]:
        """Run on the graph's inputs; empties the list."""
        outputs = self.direct(inputs)
        inputs.clear()
        return outputs


class DynamicGraph:
    """A graph with symbolic sizes: one executable for each set of sizes that it meets, or for each bucket of them.

    Each new set is compiled when it comes, from the same FX graph, so that Dynamo does not trace again.
    """

    def __init__(self, graph: PreparedGraph, options: Options, saved: SavedValues | None = None):
        self._boxed_call = True
        self._graph = graph
        self._options = options
        self._sources = graph.size_sources
        self._lock = threading.Lock()
        self._by_sizes: dict[tuple[int | float, ...], BoxedCallable] = {}
        self._padding = padding_of(graph, options, saved or SavedValues(), self._direct, self._forget)
        self._keyed = self._keys()

    def __call__(self, inputs: list[Any]) -> list[Any]:
        """Run on the graph's inputs; empties the list."""
        key = tuple(source.read(inputs) for source in self._keyed)
        run = self._by_sizes.get(key) or self.compile({s.symbol: s.read(inputs) for s in self._sources})
        outputs = run(inputs)
        inputs.clear()
        return outputs

    def compile(self, sizes: Sizes) -> BoxedCallable:
        """Return what runs the graph at these sizes; one thread compiles at a time."""
        with self._lock:
            found = self._by_sizes.get(tuple(sizes[source.symbol] for source in self._keyed))
            if found is None:
                if len(self._by_sizes) >= _SIZES_KNOWN:
                    del self._by_sizes[next(iter(self._by_sizes))]
                found = self._make(sizes)
                if (keyed := self._keys()) != self._keyed:
                    self._by_sizes.clear()
                    self._keyed = keyed
                self._by_sizes[tuple(sizes[source.symbol] for source in self._keyed)] = found
        return found

    def record(self) -> SymbolicRecord:
        """Return what another process makes this graph of. Raises NotWritable."""
        graph = self._graph
        if graph.span:
            raise NotWritable("its sizes change, and ranks run it together")
        module, static = write_graph(graph.module), tuple(sorted(graph.static))
        return SymbolicRecord(graph.role, module, graph.on_device, static, graph.returned, graph.frame)

    @classmethod
    def again(
        cls, record: SymbolicRecord, options: Options, saved: SavedValues, captured: Sequence[str]
    ) -> DynamicGraph:
        """Return the graph of a record; it looks for programs when it is called.

        captured: the names of the operations of Dynamo's graph in this process.
        """
        session().statistics.count("graphs", record.role)
        module = read_graph(record.module)
        move_operations(module, record.frame.operations, captured)
        graph = PreparedGraph(
            name=next_name(record.role),
            role=record.role,
            module=module,
            eager=module,
            on_device=record.on_device,
            static=record.static,
            returned=record.returned,
            frame=replace(record.frame, operations=tuple(captured)),
        )
        return cls(graph, options, saved)

    def _keys(self) -> list[SizeSource]:
        """Return the sources of what a call's program depends on: all that its programs do not take as inputs."""
        numbers = self._padding.numbers if self._padding is not None else ()
        return [source for source in self._sources if source not in numbers]

    def _forget(self) -> None:
        """Let every set of sizes look for its program anew: it may be served by a larger one."""
        with self._lock:
            self._by_sizes.clear()

    def _make(self, sizes: Any) -> BoxedCallable:
        if self._padding is None:
            return self._direct(self._graph, sizes)
        # AOTAutograd calls compilers with its fake tensors switched on; lengths and padding are real.
        with unset_fake_temporarily():
            padded = self._padding.run_at(sizes)
        return padded or self._padding.unpadded(self._direct(self._graph, sizes), sizes)

    def _direct(self, graph: PreparedGraph, sizes: Any = None) -> BoxedCallable:
        made = compile_sizes(graph, sizes or {}, self._options)
        return made.direct if isinstance(made, CompiledGraph) else made


def compile_for_inputs(
    graph: PreparedGraph, inputs: Sequence[Any], options: Options, saved: SavedValues | None = None
) -> CompiledGraph | CutGraph | DynamicGraph | EagerGraph:
    """Compile a graph for the sizes of its inputs, fake ones too. Raises what `specialise` raises.

    saved: what the forward and the backward graph tell each other of padded values.
    """
    try:
        sizes = graph.sizes(inputs)
    except UnsupportedOp as unsupported:
        return fall_back(graph, options, unsupported)
    if not sizes:
        return compile_sizes(graph, sizes, options)
    dynamic = DynamicGraph(graph, options, saved)
    if None not in sizes.values():  # sizes of `mark_unbacked` have no numbers before the first call
        dynamic.compile(sizes)
    return dynamic


def compile_sizes(graph: PreparedGraph, sizes: Any, options: Options) -> CompiledGraph | CutGraph | EagerGraph:
    """Compile a graph for one set of sizes, or let it, or some of its operators, run in eager PyTorch.

    Raises what `specialise` raises.
    """
    try:
        # AOTAutograd calls compilers with its fake tensors switched on; constants are real.
        with unset_fake_temporarily():
            if options.fallback == "operator" and (calls := without_lowering(graph.module)):
                return _cut_graph(graph, sizes, options, calls)
            return CompiledGraph(*specialise(graph, sizes, options))
    except UnsupportedOp as unsupported:
        if options.fallback == "operator" and (calls := refused(graph.module, unsupported)):
            with unset_fake_temporarily():
                return _cut_graph(graph, sizes, options, calls)
        return fall_back(graph, options, unsupported)


def _cut_graph(graph: PreparedGraph, sizes: Sizes, options: Options, calls: Mapping[str, Unsupported]) -> CutGraph:
    """Cut a graph around calls that have no lowering, and compile its parts."""
    whole = cut(graph.module, sizes, calls)
    steps: list[RunPart | RunOperator] = []
    for step in whole.steps:
        if isinstance(step, OperatorCall):
            steps.append(RunOperator(step, graph.on_device))
        else:
            part = part_of(graph, step, whole, len(steps))
            made = compile_sizes(part, {}, options)
            steps.append(RunPart(step, made.direct if isinstance(made, CompiledGraph) else made))
    _note_fallback(graph, UnsupportedOp(dict.fromkeys(calls.values())), "some of its operators run")
    return CutGraph(whole, steps)


def fall_back(graph: PreparedGraph, options: Options, unsupported: UnsupportedOp) -> EagerGraph:
    """Return the graph for eager PyTorch, counted and logged, where the options allow it; else raise `unsupported`."""
    if options.fallback == "error":
        record_unsupported("unsupported", graph.name, unsupported)
        raise unsupported
    _note_fallback(graph, unsupported, "it runs")
    return EagerGraph(graph.eager)


def _note_fallback(graph: PreparedGraph, unsupported: UnsupportedOp, what: str) -> None:
    for problem in unsupported.problems:
        session().statistics.count("fallbacks", f"{problem.operation}: {problem.why}")
    record_unsupported("fallback", graph.name, unsupported)
    log.warning("graph %s: %s in eager PyTorch: %s", graph.name, what, unsupported)
