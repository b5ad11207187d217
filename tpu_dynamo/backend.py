"""The backend: what `torch.compile(model, backend="tpu")` calls with each graph that Dynamo captures."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.fx import GraphModule

from tpu_dynamo_lowering import LoweringFailed, Program, UnsupportedOp, lower, prepare, readable, size_sources
from tpu_dynamo_runtime import Client, Executable, Operand, XlaRuntimeError, client

from ._torch_compat import (
    compile_with_aot_autograd,
    forward_returns,
    graph_tensors,
    guards,
    input_name,
    shape_guards,
    size_hint,
    static_inputs,
    unset_fake_temporarily,
)
from .artifacts import Artifacts, next_name, record_event
from .cache.cache import Cache
from .cache.settings import cache_settings
from .compiled import CompiledGraph, EagerGraph, Sizes, Specialisation
from .device import NAME as DEVICE
from .device.executable import DeviceExecutable
from .device.generator import draw_keys
from .device.programs import device_client
from .errors import CompilationFailed
from .inputs import check_inputs
from .options import OptionError, Options
from .saved import buffer_of, kept_results
from .session import session
from .signature import Frame, Signature, signature

log = logging.getLogger("tpu_dynamo")


def tpu(
    graph_module: GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """Compile one graph of Dynamo's for a TPU, or for the PJRT platform that `options["target"]` names.

    options: see tpu_dynamo.Options. Raises OptionError, UnknownTarget, PlatformUnavailable, UnsupportedInput,
    UnsupportedOp and CompilationFailed; Dynamo wraps them in BackendCompilerFailed.
    """
    chosen = Options.parse(options, mode)
    device = client(chosen.target)
    if check_inputs(graph_module, example_inputs):
        device = _client_of_tensors(chosen, device)
    captured = readable(graph_module) if chosen.dump_dir else ""
    forms = {"dynamo.fx.py": lambda: captured or readable(graph_module)}
    placeholders = graph_module.graph.find_nodes(op="placeholder")
    frame = Frame(tuple(map(input_name, placeholders)), tuple(guards()), tuple(shape_guards()))
    compile_as = partial(compile_graph, device, chosen, forms, frame)
    return compile_with_aot_autograd(
        graph_module,
        example_inputs,
        forward=partial(compile_as, "forward"),
        backward=partial(compile_as, "backward"),
        inference=partial(compile_as, "inference"),
        partitioner=chosen.partitioner,
        activation_memory_budget=chosen.activation_memory_budget,
    )


def _client_of_tensors(options: Options, asked: Client) -> Client:
    owner = device_client()
    if options.target != "auto" and owner.platform != asked.platform:
        raise OptionError(
            f'target={options.target!r}, but the tensors of torch.device("{DEVICE}") live on {owner.platform}; '
            "leave the target out"
        )
    return owner


def compile_graph(
    device: Client,
    options: Options,
    captured: Mapping[str, Callable[[], str]],
    frame: Frame,
    role: str,
    graph_module: GraphModule,
    example_inputs: Sequence[Any],
) -> CompiledGraph | EagerGraph:
    """One functional ATen graph as a callable, compiled for the sizes that it was traced with.

    role: `forward`, `backward` or `inference`. captured: the graph as Dynamo gave it, for those who want to see.
    frame: where it comes from.
    """
    session().statistics.count("graphs", role)
    name = next_name(role)
    early = {**captured, "aot.fx.py": lambda: readable(graph_module)}
    prepared = prepare(graph_module)
    on_device = any(v.device.type == DEVICE for v in graph_tensors(graph_module))
    static = static_inputs(graph_module, backward=role == "backward")
    returned = forward_returns() if role == "forward" else None
    try:
        sources = size_sources(prepared)
    except UnsupportedOp as unsupported:
        return fall_back(options, name, graph_module, unsupported)

    def compiled_for(sizes: Sizes) -> Specialisation | EagerGraph:
        try:
            # AOTAutograd calls compilers with its fake tensors switched on; constants are real.
            with unset_fake_temporarily():
                return specialise(
                    device, options, early, name, prepared, sources, static, on_device, returned, sizes, frame
                )
        except UnsupportedOp as unsupported:
            return fall_back(options, name, graph_module, unsupported)

    graph = CompiledGraph(sources, compiled_for)
    graph.prepare(tuple(size_hint(source.read(example_inputs)) for source in sources))
    return graph


def fall_back(options: Options, name: str, graph_module: GraphModule, unsupported: UnsupportedOp) -> EagerGraph:
    """The graph in eager PyTorch, counted and logged, where the options allow it; else raises `unsupported`."""
    if options.fallback == "error":
        raise unsupported
    for problem in unsupported.problems:
        session().statistics.count("fallbacks", f"{problem.operation}: {problem.why}")
    record_event("fallback", lambda: {"graph": name, "problems": [p.as_dict() for p in unsupported.problems]})
    log.warning("graph %s runs in eager PyTorch: %s", name, unsupported)
    return EagerGraph(graph_module)


def specialise(
    device: Client,
    options: Options,
    early: Mapping[str, Callable[[], str]],
    name: str,
    graph_module: GraphModule,
    sources: Sequence[Any],
    static: Collection[int],
    on_device: bool,
    returned: int | None,
    sizes: Sizes,
    frame: Frame,
) -> Specialisation:
    """The graph with `sizes` in the place of its symbols: lowered, compiled and ready to be called.

    What an earlier process lowered or compiled is taken from the cache. static: the positions of inputs that are the
    same at every call. on_device: whether its tensors are the device's. returned: how many outputs of a forward graph
    are the caller's; the others only its backward graph reads. frame: where the graph comes from.
    """
    started = time.perf_counter()
    bound = {source.symbol: size for source, size in zip(sources, sizes, strict=True)}
    role = name.partition("-")[2]
    suffix = "".join(f"-{symbol}={size}" for symbol, size in bound.items())
    artifacts = Artifacts(name + suffix, options.dump_dir, early)
    statistics = session().statistics
    cache = session().cache(cache_settings(options))
    program = _program(device, options, cache, artifacts, role, graph_module, bound, on_device, frame)
    lowered = time.perf_counter()
    try:
        loaded = session().load(device, program, options.max_executables, cache, artifacts.name)
    except XlaRuntimeError as error:
        repro = artifacts.write_repro({"stablehlo.mlir": program.text()})
        raise CompilationFailed("XLA", str(error), None, repro) from error
    compiled = time.perf_counter()
    times = {"lowering": lowered - started, "xla": compiled - lowered}
    record_event("stages", lambda: {"graph": artifacts.name, "seconds": times})
    artifacts.observe("optimised.hlo", lambda: device.optimised_hlo(loaded.loaded()))
    log.info(
        "graph %s: program in %.2f s, %s in %.2f s",
        artifacts.name, lowered - started, f"loaded for {device.platform}", compiled - lowered,
    )  # fmt: skip
    if on_device:
        return Specialisation(DeviceExecutable(loaded, program), program, draw_keys)
    copying = options.transfer == "copy" or device.platform != "cpu"
    executable = Executable(
        device,
        loaded,
        statistics.traffic,
        [Operand(a.position, a.spec.order, a.position in static) for a in program.arguments[: program.inputs]],
        [(result.dtype, result.order) for result in program.results],
        [(update.position, update.result) for update in program.updates],
        program.constants,
        copying=copying,
        kept=kept_results(program, returned) if copying and returned is not None else None,
        buffer_of=buffer_of,
    )
    session().note(executable)
    return Specialisation(executable, program, _draw_from_default_generator)


def _program(
    device: Client,
    options: Options,
    cache: Cache | None,
    artifacts: Artifacts,
    role: str,
    graph_module: GraphModule,
    sizes: Mapping[Any, int | float],
    donates: bool,
    frame: Frame,
) -> Program:
    """The graph's program, from the cache or lowered. Raises what `lower` raises."""

    def lowered() -> Program:
        program = lower_graph(graph_module, sizes, device.platform, donates, artifacts)
        session().statistics.count("lowerings")
        return program

    def signed() -> Signature:
        return signature(
            graph_module, sizes, role=role, platform=device.platform, options=options, donates=donates, frame=frame
        )

    # Who asks for dumps wants every form, also those that a program from the cache does not take.
    if cache is None or options.dump_dir is not None:
        return lowered()
    return cache.program(artifacts.name, signed, lowered)


def lower_graph(
    graph_module: GraphModule, sizes: Mapping[Any, int | float], platform: str, on_device: bool, artifacts: Artifacts
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


def _draw_from_default_generator(count: int) -> torch.Tensor:
    return torch.empty(count, dtype=torch.int64).random_()


# torch._dynamo.reset() calls this. Dynamo may keep a compiled function in its module's globals for longer.
tpu.reset = session().release_graphs  # type: ignore[attr-defined]
