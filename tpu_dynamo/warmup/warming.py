"""Warming: a model's graphs captured, and their programs and executables found in the cache or made."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from torch.fx import GraphModule

from tpu_dynamo_lowering import NoStableKey, Program, UnsupportedOp, operation_names
from tpu_dynamo_runtime import Environment, Renaming

from .._torch_compat import unset_fake_temporarily
from ..artifacts import Artifacts
from ..cache import executables, programs
from ..cache.cache import Cache
from ..cache.flagged import flagged
from ..cache.signature import Frame
from ..cache.spanning import Placing, spanning
from ..graph.bucketed import Padding, padding_of
from ..graph.compiled import EagerGraph
from ..graph.cut import compiled_parts
from ..graph.freezing import FrozenModule
from ..graph.loading import explaining_xla
from ..graph.lowering import lower_and_count, sign_graph
from ..graph.prepare import BoxedCallable, PreparedGraph, Sizes, prepare_graph
from ..graph.saved_values import SavedByFrame
from ..options import Options
from ..session import session
from .warm_graphs import Warmed, WarmGraph

# Told what is being done: trace, lower, compile or store.
Stage = Callable[[str], None]


class Warmer:
    """Looks up or makes what graphs need, and keeps account of it.

    checking: nothing is made; what is missing is told instead.
    """

    def __init__(self, maker: Placing, options: Options, cache: Cache, stage: Stage, *, checking: bool = False):
        self.warmed = Warmed()
        self.pads = bool(options.buckets)
        self._placing = maker
        self._maker = flagged(maker, options.xla_flags)
        self._options = options
        self._cache = cache
        self._stage = stage
        self._checking = checking
        self._names = 0
        self._saved_of = SavedByFrame()

    def visit(self, role: str, graph_module: GraphModule, example_inputs: Sequence[Any], frame: Frame) -> BoxedCallable:
        """Warm one graph for the sizes at hand; returns what warms it for those of later calls, and runs in eager."""
        graph = prepare_graph(role, graph_module, f"{self._names:04d}-{role}", frame)
        self._names += 1
        frozen = None
        if self._options.freeze:
            graph, frozen = graph.frozen({i: example_inputs[i] for i in graph.freezable})
        padding = padding_of(graph, self._options, self._saved_of(frame), self._warm_bucket)
        warmed = _WarmedGraph(self, graph, frozen, padding)
        warmed.warm(example_inputs)
        return warmed

    def _warm_bucket(self, graph: PreparedGraph) -> BoxedCallable:
        self.warm(graph, {})
        return EagerGraph(graph.eager)  # which nobody calls: eager runs the graph as it was

    def warm(self, graph: PreparedGraph, sizes: Sizes) -> None:
        """Warm one graph for one set of sizes, or its parts. Raises CompilationFailed, and what the compiler raises."""
        for part, numbers in compiled_parts(graph, sizes, self._options):
            self._warm(part, numbers)

    def _warm(self, graph: PreparedGraph, sizes: Sizes) -> None:
        artifacts = graph.artifacts(sizes)
        started = time.perf_counter()
        self._stage("lower")
        try:
            program, key, found = self._program(graph, sizes, artifacts)
        except UnsupportedOp as unsupported:
            self.note_unsupported(artifacts.name, unsupported)
            return
        if program is None:
            self.warmed.missing.append(str(session().last_miss))
            self._stage("trace")
            return
        lowered = time.perf_counter()
        executable, known = self._executable(artifacts, program, graph, sizes)
        if key is None:
            self.warmed.uncacheable.append(f"{artifacts.name}: {session().last_miss}")
        compiled = time.perf_counter()
        self.warmed.graphs.append(
            WarmGraph(
                artifacts.name,
                graph.role,
                {str(symbol): size for symbol, size in sizes.items()},
                key,
                executable,
                (found, known),
                lowered - started,
                compiled - lowered,
            )
        )
        self._stage("trace")

    def _program(
        self, graph: PreparedGraph, sizes: Sizes, artifacts: Artifacts
    ) -> tuple[Program | None, str | None, bool]:
        """Return a graph's program, its key, and True if it was in the cache.

        The key is None where no other process could find the program: a run lowers it each time. The program is None
        where it is missing and only checked for.
        """
        platform = self._maker.platform
        try:
            signed = sign_graph(graph, sizes, self._maker, self._options)
        except NoStableKey as why:
            self._cache.count_unnameable(artifacts.name, why)
            made = None if self._checking else lower_and_count(graph, sizes, self._maker, self._options, artifacts)
            return made, None, False
        with self._cache.program(artifacts.name, platform, signed) as slot:
            if slot.program is not None or self._checking:
                return slot.program, signed.key, True
            return slot.keep(lower_and_count(graph, sizes, self._maker, self._options, artifacts)), signed.key, False

    def _executable(
        self, artifacts: Artifacts, program: Program, graph: PreparedGraph, sizes: Sizes
    ) -> tuple[str, bool]:
        """Return the key of a program's executable, and True if it was in the cache. Raises CompilationFailed."""
        maker = flagged(spanning(self._placing, graph.span), self._options.xla_flags)
        watched = _WatchedMaker(maker, self._stage, self._checking)
        key = executables.executable_key(program.digest, maker.environment)

        def renamed(message: str) -> str:
            return Renaming(program.operations, operation_names(graph.module, sizes)).text(message)

        try:
            with explaining_xla(self._maker.platform, program, artifacts, renamed=renamed):
                self._cache.executable(
                    watched, program.stablehlo, program.digest, artifacts.name, operations=program.operations
                )
        except _NotCompiled:
            miss = self._cache.explain_executable(artifacts.name, maker, program.digest)
            self.warmed.missing.append(str(miss))
            return key, False
        return key, not watched.compiled

    def note_unsupported(self, name: str, unsupported: UnsupportedOp) -> None:
        if self._options.fallback == "error":
            self.warmed.unsupported += unsupported.problems
        else:
            self.warmed.in_eager.append(name)

    def entries(self) -> list[tuple[str, str]]:
        """Return the kinds and keys of all entries that the graphs have in the cache, each once."""
        found = [(programs.KIND, graph.program) for graph in self.warmed.graphs]
        found += [(executables.KIND, graph.executable) for graph in self.warmed.graphs]
        return [(kind, key) for kind, key in dict.fromkeys(found) if key is not None]


class _WarmedGraph:
    """A graph's substitute in AOTAutograd: it warms the graph for a call's sizes, and runs it in eager."""

    def __init__(self, warmer: Warmer, graph: PreparedGraph, frozen: FrozenModule | None, padding: Padding | None):
        self._boxed_call = True
        self._warmer = warmer
        self._graph = graph
        self._frozen = frozen
        self._padding = padding
        self._eager = EagerGraph(graph.eager)
        self._warm: list[Sizes] = []

    def warm(self, inputs: Sequence[Any]) -> list[Any]:
        """Warm the graph for the sizes of its inputs if they are new; returns the inputs of the graph to run."""
        given = list(inputs) if self._frozen is None else self._frozen.inputs(inputs)
        try:
            sizes = self._graph.sizes(given)
        except UnsupportedOp as unsupported:
            self._warmer.note_unsupported(self._graph.name, unsupported)
            return given
        if sizes not in self._warm:
            self._warm.append(sizes)
            with unset_fake_temporarily():
                if not (sizes and self._is_warm_padded(sizes)):
                    self._warmer.warm(self._graph, sizes)
        return given

    def _is_warm_padded(self, sizes: Sizes) -> bool:
        """Warm the graph for the sizes' bucket; False where it is not padded."""
        if self._padding is None:
            return False
        program = self._padding.program_for(sizes)
        if self._padding.refused is not None and self._warmer.pads:
            self._warmer.warmed.not_padded.append(str(self._padding.refused))
        return program is not None

    def __call__(self, inputs: list[Any]) -> list[Any]:
        """Run on the graph's inputs; empties the list."""
        given = self.warm(inputs)
        inputs.clear()
        return self._eager(given)


class _NotCompiled(Exception):
    """Raised where an executable is missing and only checked for."""


class _WatchedMaker:
    """A maker that tells when it works.

    checking: raise _NotCompiled instead of compiling.
    """

    def __init__(self, maker: executables.Maker, stage: Stage, checking: bool):
        self._maker = maker
        self._stage = stage
        self._checking = checking
        self.compiled = False

    @property
    def environment(self) -> Environment:
        return self._maker.environment

    def compile(self, stablehlo: bytes) -> Any:
        if self._checking:
            raise _NotCompiled
        self._stage("compile")
        self.compiled = True
        return self._maker.compile(stablehlo)

    def serialise(self, executable: Any) -> bytes:
        self._stage("store")
        return self._maker.serialise(executable)

    def deserialise(self, data: bytes) -> Any:
        return self._maker.deserialise(data)
