"""The backend: what `torch.compile(model, backend="tpu")` calls with each graph that Dynamo captures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch.fx import GraphModule

from tpu_dynamo_lowering import UnsupportedOp, prepare, readable, size_sources
from tpu_dynamo_runtime import Client, client

from ._torch_compat import (
    compile_with_aot_autograd,
    forward_returns,
    frame_function,
    graph_tensors,
    guards,
    input_name,
    leave_out_streams,
    shape_guards,
    size_hint,
    static_inputs,
    unset_fake_temporarily,
)
from .artifacts import next_name, record_event
from .cache.signature import Frame, input_names
from .device import NAME as DEVICE
from .graph.compiled import CompiledGraph, EagerGraph, Run, Sizes
from .graph.freezing import FrozenModule, check_role
from .graph.frozen import FrozenGraph
from .graph.inputs import check_inputs, client_of_tensors
from .graph.specialise import Graph, specialise
from .graph.torch_cache import finding_programs, kept_by_torch, storable
from .graph.torch_entry import GraphRecord
from .options import Options
from .session import session

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
    on_device = check_inputs(graph_module, example_inputs)
    leave_out_streams(graph_module)
    device = client_of_tensors(chosen) if on_device else client(chosen.target)
    captured = readable(graph_module) if chosen.dump_dir else ""
    forms = {"dynamo.fx.py": lambda: captured or readable(graph_module)}
    placeholders = graph_module.graph.find_nodes(op="placeholder")
    names = tuple(map(input_name, placeholders))
    frame = Frame(names, tuple(guards()), tuple(shape_guards()), frame_function())
    compile_as = partial(compile_graph, chosen, forms, frame)
    compilers: dict[str, Any] = {role: partial(compile_as, role) for role in ("forward", "backward", "inference")}
    kept = kept_by_torch(chosen, device, on_device)
    if kept is not None:
        compilers = {role: storable(role, compiler) for role, compiler in compilers.items()}
    with finding_programs(chosen):
        return compile_with_aot_autograd(
            graph_module,
            example_inputs,
            **compilers,
            partitioner=chosen.partitioner,
            activation_memory_budget=chosen.activation_memory_budget,
            kept=kept,
        )


def compile_graph(
    options: Options,
    captured: Mapping[str, Callable[[], str]],
    frame: Frame,
    role: str,
    graph_module: GraphModule,
    example_inputs: Sequence[Any],
) -> CompiledGraph | EagerGraph | FrozenGraph:
    """One functional ATen graph as a callable, compiled for the sizes that it was traced with.

    role: `forward`, `backward` or `inference`. captured: the graph as Dynamo gave it, for those who want to see.
    frame: where it comes from.
    """
    session().statistics.count("graphs", role)
    prepared = prepare(graph_module)
    # A graph without inputs may make tensors on the device, and those that it gets may come in lists.
    on_device = any(v.device.type == DEVICE for v in graph_tensors(graph_module))
    device = client_of_tensors(options) if on_device else client(options.target)
    graph = Graph(
        name=next_name(role),
        role=role,
        module=prepared,
        on_device=on_device,
        static=static_inputs(graph_module, backward=role == "backward"),
        returned=forward_returns() if role == "forward" else None,
        frame=frame,
        forms={**captured, "aot.fx.py": lambda: readable(graph_module)},
    )
    if not options.freeze:
        return callable_of(device, options, graph, graph_module, example_inputs)
    check_role(role)

    def compile_frozen(frozen: FrozenModule, inputs: Sequence[Any]) -> CompiledGraph | EagerGraph:
        resident = [i for i, position in enumerate(frozen.moving) if position in graph.static]
        constants = range(len(frozen.moving), len(inputs))
        whole = replace(graph, module=frozen.module, static={*resident, *constants})
        return callable_of(device, options, whole, frozen.module, inputs)

    return FrozenGraph(graph.module, graph.static, input_names(prepared, frame.inputs), compile_frozen)


def callable_of(
    device: Client, options: Options, graph: Graph, eager: GraphModule, example_inputs: Sequence[Any]
) -> CompiledGraph | EagerGraph:
    """A graph as a callable, compiled for the sizes of its example inputs.

    eager: the same graph for PyTorch, should the options allow it to take over.
    """
    try:
        sources = size_sources(graph.module)
    except UnsupportedOp as unsupported:
        return fall_back(options, graph.name, eager, unsupported)

    def compiled_for(sizes: Sizes) -> Run:
        bound = {source.symbol: size for source, size in zip(sources, sizes, strict=True)}
        try:
            # AOTAutograd calls compilers with its fake tensors switched on; constants are real.
            with unset_fake_temporarily():
                run, key = specialise(device, options, graph, bound)
        except UnsupportedOp as unsupported:
            return fall_back(options, graph.name, eager, unsupported)
        if key is not None and not sources:
            static = tuple(sorted(graph.static))
            compiled.record = GraphRecord(graph.role, key, graph.on_device, static, graph.returned)
        return run

    compiled = CompiledGraph(sources, compiled_for)
    compiled.prepare(tuple(size_hint(source.read(example_inputs)) for source in sources))
    return compiled


def fall_back(options: Options, name: str, graph_module: GraphModule, unsupported: UnsupportedOp) -> EagerGraph:
    """The graph in eager PyTorch, counted and logged, where the options allow it; else raises `unsupported`."""
    if options.fallback == "error":
        raise unsupported
    for problem in unsupported.problems:
        session().statistics.count("fallbacks", f"{problem.operation}: {problem.why}")
    record_event("fallback", lambda: {"graph": name, "problems": [p.as_dict() for p in unsupported.problems]})
    log.warning("graph %s runs in eager PyTorch: %s", name, unsupported)
    return EagerGraph(graph_module)


# torch._dynamo.reset() calls this. Dynamo may keep a compiled function in its module's globals for longer.
tpu.reset = session().release_graphs  # pyright: ignore[reportFunctionMemberAccess]
