"""A graph of changing sizes at buckets: one program serves all sizes up to its own."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import sympy
import torch

from tpu_dynamo_lowering import PaddedGraph, Unproven, pad_sizes

from .._torch_compat import compile_lock, size_facts
from ..artifacts import record_event
from ..buckets import Buckets, buckets_of
from ..options import Options
from ..session import session
from .ahead import Task, ahead_queue
from .bucket_program import BucketProgram, Lengths
from .padding import place
from .prepare import BoxedCallable, PreparedGraph
from .saved_values import SavedValues
from .tied_sizes import Bucket, fitted

log = logging.getLogger("tpu_dynamo")

Compile = Callable[[PreparedGraph], BoxedCallable]

# How many buckets of one graph are compiled ahead.
_MOST_AHEAD = 64


def padding_of(
    graph: PreparedGraph,
    options: Options,
    saved: SavedValues,
    compile: Compile,
    ready: Callable[[], None] = lambda: None,
) -> Padding | None:
    """Return the padding of a graph that has something to pad, or numbers that change; None for any other."""
    return Padding(graph, options, saved, compile, ready) if options.buckets or graph.numbers else None


class Padding:
    """The padding of one graph: its programs by bucket. One thread asks at a time; others compile ahead.

    Integers of which no size depends have no bucket: they are inputs of the programs. Without the option `buckets` they
    are all that changes within a program.

    saved: shared by the forward and the backward graph of one graph of Dynamo's. compile: makes of a graph without
    symbols what runs it. ready: called when a bucket was compiled ahead. refused: why the graph cannot be padded, once
    that is known.
    """

    def __init__(
        self,
        graph: PreparedGraph,
        options: Options,
        saved: SavedValues,
        compile: Compile,
        ready: Callable[[], None] = lambda: None,
    ):
        self._graph = graph
        self._table = options.buckets
        self._saved = saved
        self._compile = compile
        self._ready = ready
        self._threads = 0 if options.forbid_compile else options.compile_ahead
        self._tasks: dict[tuple[int | float, ...], Task] = {}
        self._names = [node.name for node in graph.module.graph.find_nodes(op="placeholder")]
        self._programs: dict[tuple[int | float, ...], BucketProgram] = {}
        self._exact: dict[tuple[int | float, ...], BucketProgram] = {}
        self.numbers = graph.numbers
        self.refused: Unproven | None = None

    def run_at(self, sizes: Lengths) -> BoxedCallable | None:
        """Return what runs the graph at these true sizes by a program of a bucket; None where there is none.

        Raises what compiling raises.
        """
        program = self.program_for(sizes)
        if program is None:
            return None
        return program.at(sizes) if program.pads else self.unpadded(program.at(sizes), sizes)

    def program_for(self, sizes: Mapping[sympy.Symbol, int | float]) -> BucketProgram | None:
        """Return the program of these sizes' bucket, compiled if it is new; None where there is none.

        Raises what compiling raises.
        """
        if self.refused is not None:
            return None
        bucket = self._bucket(sizes)
        if bucket is None:
            session().statistics.count("buckets", "sizes for which the larger graph is another")
            return self._at_true_sizes(self._without_numbers(sizes)) if self.numbers else None
        key = tuple(bucket.values())
        if key in self._programs:
            return self._programs[key]
        if (larger := self._larger(bucket)) is not None:
            self._submit(bucket)
            return larger
        if (task := self._tasks.get(key)) is not None and not task.claim():
            task.done.wait()
        numbers = self.numbers
        self._enter(bucket)
        if self.numbers != numbers:
            return self.program_for(sizes)
        if self._threads and self.refused is None:
            for other in self.buckets(bucket):
                self._submit(other)
        return self._programs.get(key)

    def _at_true_sizes(self, sizes: Bucket) -> BucketProgram | None:
        """Return the program of these true sizes, for whose bucket the graph is another, that takes numbers as inputs.

        None where they cannot be inputs.
        """
        self._enter(sizes, self._exact)
        return self._exact.get(tuple(sizes.values()))

    def enter_all(self, sizes: Mapping[sympy.Symbol, int | float]) -> bool:
        """Compile the bucket of these sizes and all others that may be asked for; False where there is none."""
        if self.program_for(sizes) is None:
            return False
        for bucket in self.buckets(self._bucket(sizes) or {}):
            self._enter(bucket)
        return self.refused is None

    def buckets(self, bucket: Bucket) -> list[Bucket]:
        """Return the buckets that may be asked for besides one, those most like it first.

        They are those of the option's list, or of the range that the dimension is marked with; for one without a range,
        the next larger.
        """
        facts = size_facts(self._graph.module)
        choices: list[list[int | float]] = []
        for symbol, size in bucket.items():
            buckets = self._buckets_of(symbol, size)
            lowest, highest = facts.smallest.get(symbol) or 2, facts.largest.get(symbol)
            choices.append([size] if buckets is None else [*buckets.known(max(lowest, 2), highest, int(size))])
        own = tuple(bucket.values())
        found: dict[tuple[int | float, ...], Bucket] = {}
        for values in itertools.product(*choices):
            other = self._fitted(dict(zip(bucket, values, strict=True)), dict.fromkeys(bucket, 2))
            if other is not None and (key := tuple(other.values())) != own:
                found.setdefault(key, other)
        differences = {k: sum(other[symbol] != size for symbol, size in bucket.items()) for k, other in found.items()}
        return [found[key] for key in sorted(found, key=differences.__getitem__)]

    def _larger(self, bucket: Bucket) -> BucketProgram | None:
        """Return the smallest compiled program that serves a bucket's calls while its own is compiled, if any.

        Only without a backward graph, which takes what its forward graph saved, of the size of its own bucket.
        """
        if not self._threads or self._graph.role != "inference":
            return None
        padded = [self._buckets_of(symbol, size) is not None for symbol, size in bucket.items()]
        wanted = tuple(bucket.values())
        fitting = [
            key
            for key, program in tuple(self._programs.items())
            if program.pads and all(a >= b if pads else a == b for a, b, pads in zip(key, wanted, padded, strict=True))
        ]
        return self._programs[min(fitting, key=prod)] if fitting else None

    def _submit(self, bucket: Bucket) -> None:
        key = tuple(bucket.values())
        if key in self._programs or key in self._tasks or len(self._tasks) >= _MOST_AHEAD:
            return
        self._tasks[key] = Task(lambda: self._work(bucket))
        ahead_queue().submit(self._tasks[key], self._threads)

    def _work(self, bucket: Bucket) -> None:
        """Compile a bucket in a thread of the queue."""
        try:
            with torch.no_grad():
                self._enter(bucket)
        except Exception as error:  # noqa: BLE001  # no caller is there; the bucket's call compiles it and meets it again
            why, sizes = f"{type(error).__name__}: {error}", self._described(bucket)
            session().statistics.count("buckets", f"not compiled ahead: {why.splitlines()[0]}")
            record_event("not compiled ahead", lambda: {"graph": self._graph.name, "sizes": sizes, "why": why})
            log.warning("graph %s at %s was not compiled ahead: %s", self._graph.name, sizes, why)
            return
        session().statistics.count("buckets", "compiled ahead")
        self._tasks[tuple(bucket.values())].done.set()  # before `_ready`, which may wait for who waits for this
        self._ready()

    def _enter(self, bucket: Bucket, programs: dict[tuple[int | float, ...], BucketProgram] | None = None) -> None:
        """Compile a bucket, unless it is there or the graph cannot be padded.

        programs: where it is kept, if the sizes are the true ones of a call.
        """
        programs = self._programs if programs is None else programs
        key = tuple(bucket.values())
        if key in programs or self.refused is not None:
            return
        try:
            programs[key] = self._make(bucket, pads=programs is self._programs)
        except Unproven as unproven:
            if self.numbers:
                self._take_numbers_as_sizes(unproven)
            else:
                self._refuse(unproven)

    def _buckets_of(self, symbol: sympy.Symbol, size: float) -> Buckets | None:
        names = size_facts(self._graph.module).names
        return buckets_of(self._table, names.get(symbol, "")) if isinstance(size, int) else None

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

    def _bucket(self, sizes: Bucket) -> Bucket | None:
        """Return the sizes of the bucket; None where the graph is right for the true ones alone."""
        return self._fitted(sizes, sizes)

    def _fitted(self, sizes: Bucket, least: Bucket) -> Bucket | None:
        """Return the bucket of some sizes, none of it smaller than in `least`, for which the graph is right; or None.

        A graph of training takes the next sizes or none: its backward graph does not have all symbols, and would find
        others.
        """
        facts = size_facts(self._graph.module)
        bucket = self._without_numbers(sizes)
        buckets = {symbol: self._buckets_of(symbol, size) for symbol, size in bucket.items()}
        padded = {symbol: each for symbol, each in buckets.items() if each is not None}
        for symbol, each in padded.items():
            bucket[symbol] = each.of(int(bucket[symbol]), facts.largest.get(symbol))
        return fitted(bucket, {**sizes, **least}, list(padded) if self._graph.role == "inference" else [], facts)

    def _without_numbers(self, sizes: Mapping[sympy.Symbol, int | float]) -> dict[sympy.Symbol, int | float]:
        numbers = {source.symbol for source in self.numbers}
        return {symbol: size for symbol, size in sizes.items() if symbol not in numbers}

    def _make(self, bucket: Bucket, pads: bool) -> BucketProgram:
        changing = [symbol for symbol, size in bucket.items() if pads and self._buckets_of(symbol, size)]
        equalities = size_facts(self._graph.module).equalities
        with compile_lock:
            symbols = [*changing, *(source.symbol for source in self.numbers)]
            saved = self._saved.at(bucket) if changing else {}
            padded = pad_sizes(self._graph.module, bucket, symbols, saved, equalities)
        returned = self._graph.returned if self._graph.role == "forward" else None
        if returned is not None and changing:
            self._save(padded, returned)
        name = self._graph.artifacts(bucket).name
        graph = replace(self._graph, name=name, module=padded.module, eager=padded.module)
        run = self._compile(graph)
        if changing:
            session().statistics.count("buckets", "padded")
            record_event("bucket", lambda: {"graph": self._graph.name, "sizes": self._described(bucket)})
        described = {
            "function": graph.frame.function or graph.role, "role": graph.role, "bucket": bucket,
            "names": dict(zip(bucket, self._described(bucket), strict=True)),
        }  # fmt: skip
        return BucketProgram(run, padded, returned, name, described, self.numbers)

    def _save(self, padded: PaddedGraph, returned: int) -> None:
        outputs = self._graph.module.graph.output_node().args[0]
        for node, extents in zip(outputs[returned:], padded.outputs[returned:], strict=True):  # pyright: ignore
            if isinstance(node, torch.fx.Node) and extents is not None:
                self._saved.extents[node.name] = extents

    def _described(self, sizes: Mapping[sympy.Symbol, int | float]) -> dict[str, int | float]:
        names = size_facts(self._graph.module).names
        return {names.get(symbol, str(symbol)): size for symbol, size in sizes.items()}

    def _take_numbers_as_sizes(self, unproven: Unproven) -> None:
        """Let each value of the graph's numbers have programs of its own, where they cannot be inputs."""
        self.numbers = ()
        self._programs.clear()
        self._exact.clear()
        problem = unproven.problem
        log.info("graph %s is compiled for each value of its integers: %s", self._graph.name, problem)
        if not self._table:
            self.refused = unproven

    def _refuse(self, unproven: Unproven) -> None:
        self.refused = unproven
        problem = unproven.problem
        session().statistics.count("buckets", f"{problem.operation}: {problem.why}")
        record_event("not padded", lambda: {"graph": self._graph.name, "problems": [problem.as_dict()]})
        log.warning("graph %s is compiled for each size, not for buckets: %s", self._graph.name, problem)
