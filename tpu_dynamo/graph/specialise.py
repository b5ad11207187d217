"""A graph at one set of sizes: its program, from the cache or lowered; its executable; and what calls that."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import sympy
import torch
from torch.fx import GraphModule

from tpu_dynamo_lowering import LoweringFailed, Program, lower
from tpu_dynamo_runtime import (
    Client,
    CopiedExecutable,
    Executable,
    Operand,
    PooledProgram,
    ProgramInterface,
    Result,
    SharedExecutable,
    XlaRuntimeError,
)

from ..artifacts import Artifacts, next_name, record_event
from ..cache.cache import Cache
from ..cache.settings import cache_settings
from ..cache.signature import Frame, Signature, signature
from ..device.device_executable import DeviceExecutable
from ..device.generator import draw_keys
from ..errors import CompilationFailed, refusal_of_xla
from ..options import Options
from ..session import session
from .compiled import Run, run_of
from .saved_activations import buffer_of, kept_results, results_of
from .torch_entry import GraphRecord

log = logging.getLogger("tpu_dynamo")

SizeOf = Mapping[sympy.Symbol, int | float]


@dataclass(frozen=True)
class Graph:
    """A functional ATen graph, and what is known of it whatever its sizes are.

    role: `forward`, `backward`, `inference` or `step`. module: as `prepare` gives it. on_device: whether its tensors
    are the device's. static: the positions of inputs that are the same at every call. returned: how many outputs of a
    forward graph are the caller's; the others only its backward graph reads. frame: where it comes from. forms: what
    it was before, for those who want to see.
    """

    name: str
    role: str
    module: GraphModule
    on_device: bool
    static: Collection[int] = ()
    returned: int | None = None
    frame: Frame = field(default_factory=Frame)
    forms: Mapping[str, Callable[[], str]] = field(default_factory=dict)


def specialise(device: Client, options: Options, graph: Graph, sizes: SizeOf) -> tuple[Run, str | None]:
    """The graph with `sizes` in the place of its symbols: lowered, compiled and ready to be called.

    Beside it the key under which other processes find its program; None where they cannot.

    What an earlier process lowered or compiled is taken from the cache. Raises what `lower_graph` raises, and
    CompilationFailed for what XLA refuses.
    """
    started = time.perf_counter()
    suffix = "".join(f"-{symbol}={size}" for symbol, size in sizes.items())
    artifacts = Artifacts(graph.name + suffix, options.dump_dir, graph.forms)
    cache = session().cache(cache_settings(options))
    program, key = program_of(device.platform, options, cache, artifacts, graph, sizes)
    return _ready(device, options, cache, artifacts, graph, program, time.perf_counter() - started), key


def revive(device: Client, options: Options, record: GraphRecord) -> Run | None:
    """The graph that another process compiled, without the graph; None where its program is no longer kept.

    Raises CompilationFailed for what XLA refuses.
    """
    started = time.perf_counter()
    cache = session().cache(cache_settings(options))
    artifacts = Artifacts(next_name(record.role))
    program = cache.known_program(artifacts.name, device.platform, record.signature) if cache is not None else None
    if program is None:
        return None
    spent = time.perf_counter() - started
    return _ready(device, options, cache, artifacts, record, program, spent)


def _ready(
    device: Client,
    options: Options,
    cache: Cache | None,
    artifacts: Artifacts,
    graph: Graph | GraphRecord,
    program: Program,
    lowering: float,
) -> Run:
    """The program, which took `lowering` seconds to have, loaded and ready to be called."""
    started = time.perf_counter()
    try:
        loaded = session().load(device, program, options.max_executables, cache, artifacts.name)
    except XlaRuntimeError as error:
        forms = {"stablehlo.mlir": program.text()}
        raise refusal_of_xla(device.platform, str(error), lambda: artifacts.write_repro(forms)) from error
    loading = time.perf_counter() - started
    times = {"lowering": lowering, "xla": loading}
    record_event("stages", lambda: {"graph": artifacts.name, "seconds": times})
    artifacts.observe("optimised.hlo", lambda: device.optimised_hlo(loaded.loaded()))
    log.info(
        "graph %s: program in %.2f s, %s in %.2f s",
        artifacts.name, lowering, f"loaded for {device.platform}", loading,
    )  # fmt: skip
    if graph.on_device:
        return run_of(DeviceExecutable(loaded, program), program, draw_keys)
    executable = _executable(device, options, graph, program, loaded)
    session().note(executable)
    return run_of(executable, program, _draw_from_default_generator)


def program_of(
    platform: str, options: Options, cache: Cache | None, artifacts: Artifacts, graph: Graph, sizes: SizeOf
) -> tuple[Program, str | None]:
    """The graph's program, from the cache or lowered, and its key there. Raises what `lower_graph` raises."""

    def lowered() -> Program:
        program = lower_graph(graph.module, sizes, platform, graph.on_device, artifacts)
        session().statistics.count("lowerings")
        return program

    def signed() -> Signature:
        return signature_of(platform, options, graph, sizes)

    # Who asks for dumps wants every form, also those that a program from the cache does not take.
    if cache is None or options.dump_dir is not None:
        return lowered(), None
    return cache.program(artifacts.name, platform, signed, lowered)


def signature_of(platform: str, options: Options, graph: Graph, sizes: SizeOf) -> Signature:
    """The graph's signature at these sizes. Raises Unnameable for a graph that no other process could recognise."""
    return signature(
        graph.module,
        sizes,
        role=graph.role,
        platform=platform,
        options=options,
        donates=graph.on_device,
        frame=graph.frame,
    )


def lower_graph(
    graph_module: GraphModule, sizes: SizeOf, platform: str, on_device: bool, artifacts: Artifacts
) -> Program:
    """The graph's program with the process's settings. Raises UnsupportedOp, UnsupportedInput and CompilationFailed."""
    try:
        return lower(
            graph_module,
            sizes,
            platform=platform,
            matmul_precision=torch.get_float32_matmul_precision(),
            donates=on_device,
            observe=artifacts.observe,
        )
    except LoweringFailed as failure:
        repro = artifacts.write_repro(failure.artifacts)
        raise CompilationFailed(failure.stage, failure.why, failure.line, repro) from failure


def _executable(
    device: Client, options: Options, graph: Graph | GraphRecord, program: Program, loaded: PooledProgram
) -> Executable:
    """Return the callable that runs a program on CPU tensors."""
    traffic = session().statistics.traffic
    inputs = program.arguments[: program.inputs]
    operands = [Operand(a.position, a.spec.order, a.position in graph.static) for a in inputs]
    results = [Result(result.shape, result.dtype, result.order) for result in program.results]
    updates = [(update.position, update.result) for update in program.updates]
    interface = ProgramInterface(operands, results, updates, program.constants)
    if device.platform == "cpu" and options.transfer != "copy":
        handed_out = results_of(program.outputs[: graph.returned])
        return SharedExecutable(loaded, traffic, interface, handed_out)
    return CopiedExecutable(
        loaded,
        traffic,
        interface,
        kept=kept_results(program, graph.returned) if graph.returned is not None else None,
        buffer_of=buffer_of,
        residents=session().residents(device),
    )


def _draw_from_default_generator(count: int) -> torch.Tensor:
    return torch.empty(count, dtype=torch.int64, device="cpu").random_()
