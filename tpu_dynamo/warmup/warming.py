"""Warming: a model's graphs captured, and their programs and executables found in the cache or made."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch.fx import GraphModule

from tpu_dynamo_lowering import NoStableKey, Program, UnsupportedOp, prepare, size_sources
from tpu_dynamo_runtime import CompileError, Environment, XlaRuntimeError

from .._torch_compat import graph_tensors, size_hint, static_inputs
from ..artifacts import Artifacts
from ..cache import executables, programs
from ..cache.cache import Cache
from ..cache.signature import Frame
from ..device import NAME as DEVICE
from ..errors import refusal_of_xla
from ..graph.compiled import CompiledGraph, EagerGraph, Sizes
from ..graph.freezing import FrozenModule, check_role, freezable, freeze
from ..graph.specialise import Graph, SizeOf, lower_graph, signature_of
from ..options import Options
from ..session import session
from .warm_graphs import Warmed, WarmGraph

# Told what is being done: trace, lower, compile or store.
Stage = Callable[[str], None]


class PlatformMaker(executables.Maker, Protocol):
    """What makes executables for one platform: a client, or the compiler of a topology."""

    platform: str


class _Missing(Exception):
    """What would have been made, had making been allowed."""


class Warmer:
    """Looks up or makes what graphs need, and keeps account of it.

    checking: nothing is made; what is missing is told instead.
    """

    def __init__(self, maker: PlatformMaker, options: Options, cache: Cache, stage: Stage, *, checking: bool = False):
        self.warmed = Warmed()
        self._maker = maker
        self._options = options
        self._cache = cache
        self._stage = stage
        self._checking = checking
        self._names = 0

    def visit(
        self, role: str, graph_module: GraphModule, example_inputs: Sequence[Any], frame: Frame
    ) -> Callable[[list[Any]], list[Any]]:
        """Warm one graph for the sizes at hand; gives what warms it for those of later calls, and runs in eager."""
        prepared = prepare(graph_module)
        on_device = any(value.device.type == DEVICE for value in graph_tensors(graph_module))
        graph = Graph(f"{self._names:04d}-{role}", role, prepared, on_device, frame=frame)
        self._names += 1
        if not self._options.freeze:
            return self._warm_sizes(graph, EagerGraph(graph_module), example_inputs)
        check_role(role)
        static = freezable(prepared, static_inputs(graph_module, backward=False))
        frozen = freeze(prepared, {i: example_inputs[i] for i in static})
        whole = dataclasses.replace(graph, module=frozen.module)
        run = _Frozen(frozen)
        run.compiled = self._warm_sizes(whole, EagerGraph(frozen.module), frozen.inputs(example_inputs))
        return run

    def _warm_sizes(
        self, graph: Graph, eager: EagerGraph, example_inputs: Sequence[Any]
    ) -> Callable[[list[Any]], list[Any]]:
        """Warm a graph for the sizes of its example inputs; gives what does it for those of later calls."""
        try:
            sources = size_sources(graph.module)
        except UnsupportedOp as unsupported:
            self._note_unsupported(graph.name, unsupported)
            return eager

        def warm(sizes: Sizes) -> EagerGraph:
            self.warm(graph, {source.symbol: size for source, size in zip(sources, sizes, strict=True)})
            return eager

        compiled = CompiledGraph(sources, warm)
        compiled.prepare(tuple(size_hint(source.read(example_inputs)) for source in sources))
        return compiled

    def warm(self, graph: Graph, sizes: SizeOf) -> None:
        """Warm one graph for one set of sizes. Raises CompilationFailed, and what the compiler raises."""
        suffix = "".join(f"-{symbol}={size}" for symbol, size in sizes.items())
        artifacts = Artifacts(graph.name + suffix)
        started = time.perf_counter()
        self._stage("lower")
        try:
            key, program, found = self._program(artifacts, graph, sizes)
        except _Missing:
            self.warmed.missing.append(str(session().last_miss))
            self._stage("trace")
            return
        except UnsupportedOp as unsupported:
            self._note_unsupported(artifacts.name, unsupported)
            return
        lowered = time.perf_counter()
        executable, known = self._executable(artifacts, program)
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

    def _program(self, artifacts: Artifacts, graph: Graph, sizes: SizeOf) -> tuple[str | None, Program, bool]:
        """The key of a graph's program, the program, and whether it was in the cache."""
        made = False

        def lowered() -> Program:
            nonlocal made
            if self._checking:
                raise _Missing
            made = True
            program = lower_graph(graph.module, sizes, self._maker.platform, graph.on_device, artifacts)
            session().statistics.count("lowerings")
            return program

        try:
            signature = signature_of(self._maker.platform, self._options, graph, sizes)
        except NoStableKey as why:
            # As a run does it: it has no key, and is lowered each time.
            return None, self._cache.program(artifacts.name, self._maker.platform, _raising(why), lowered)[0], False
        program, key = self._cache.program(artifacts.name, self._maker.platform, lambda: signature, lowered)
        return key, program, not made

    def _executable(self, artifacts: Artifacts, program: Program) -> tuple[str, bool]:
        """The key of a program's executable, and whether it was in the cache. Raises CompilationFailed."""
        watched = _Watched(self._maker, self._stage, self._checking)
        key = executables.executable_key(program.digest, self._maker.environment)
        try:
            self._cache.executable(watched, program.stablehlo, program.digest, artifacts.name)
        except _Missing:
            miss = self._cache.explain_executable(artifacts.name, self._maker, program.digest)
            self.warmed.missing.append(str(miss))
            return key, False
        except (CompileError, XlaRuntimeError) as error:
            forms = {"stablehlo.mlir": program.text()}
            raise refusal_of_xla(self._maker.platform, str(error), lambda: artifacts.write_repro(forms)) from error
        return key, not watched.compiled

    def _note_unsupported(self, name: str, unsupported: UnsupportedOp) -> None:
        if self._options.fallback == "eager":
            self.warmed.in_eager.append(name)
        else:
            self.warmed.unsupported += unsupported.problems

    def entries(self) -> list[tuple[str, str]]:
        """The kinds and keys of all entries that the graphs have in the cache, each once."""
        found = [(programs.KIND, graph.program) for graph in self.warmed.graphs]
        found += [(executables.KIND, graph.executable) for graph in self.warmed.graphs]
        return [(kind, key) for kind, key in dict.fromkeys(found) if key is not None]


class _Frozen:
    """What AOTAutograd calls in the place of a graph whose parameters are constants."""

    def __init__(self, frozen: FrozenModule):
        self._boxed_call = True
        self._frozen = frozen
        self.compiled: Callable[[list[Any]], list[Any]]

    def __call__(self, inputs: list[Any]) -> list[Any]:
        """Run on the whole graph's inputs; empties the list."""
        given = self._frozen.inputs(inputs)
        inputs.clear()
        return self.compiled(given)


def _raising(error: Exception) -> Callable[[], Any]:
    def sign() -> Any:
        raise error

    return sign


class _Watched:
    """A maker that tells when it works."""

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
            raise _Missing
        self._stage("compile")
        self.compiled = True
        return self._maker.compile(stablehlo)

    def serialise(self, executable: Any) -> bytes:
        self._stage("store")
        return self._maker.serialise(executable)

    def deserialise(self, data: bytes) -> Any:
        return self._maker.deserialise(data)
