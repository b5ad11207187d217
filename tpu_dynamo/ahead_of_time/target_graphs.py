"""compile_for: a model's graphs compiled for a chip that need not be there, with what they will cost on it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.fx import GraphModule

from tpu_dynamo_lowering import Unsupported, UnsupportedOp
from tpu_dynamo_runtime import (
    Compilation,
    Compiler,
    DoesNotFit,
    Mesh,
    XlaFlags,
    communication_of,
    form_to_count,
    open_compiler,
)
from tpu_dynamo_runtime.topology_compiler import TopologyCompiler

from .._torch_compat import modules_of, pytree
from ..artifacts import Artifacts
from ..cache.signature import Frame
from ..device import NAME as DEVICE
from ..device import DeviceNameTaken, register
from ..distributed.imagined_job import built_on, check_mesh, imagined_job
from ..graph.bucketed import padding_of
from ..graph.compiled import EagerGraph
from ..graph.cut import compiled_parts
from ..graph.loading import explaining_xla
from ..graph.lowering import lower_graph
from ..graph.prepare import BoxedCallable, PreparedGraph, Sizes, prepare_graph
from ..graph.saved_values import SavedByFrame
from ..options import OptionError, Options
from ..peaks.owners import interface_of
from ..peaks.words import memory_needed, refusal_in_words
from .capture import capture
from .compiled_graph import GraphProgram, Role, TargetGraph
from .steps import MakeOptimizer, capture_steps, model_inputs

log = logging.getLogger("tpu_dynamo")


def compile_for(
    model: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    target: str,
    mesh: Mesh | None = None,
    training: bool = False,
    loss: Callable[..., Any] | None = None,
    optimizer: MakeOptimizer | None = None,
    options: Mapping[str, Any] | None = None,
    explain: bool = False,
) -> list[TargetGraph]:
    """Compile every graph that `model(*args, **kwargs)` consists of, without running it and without the chip.

    model: a module, a method of one, or a function of tensors. args, kwargs: only shapes and dtypes matter, so
    meta and fake tensors do, for the module too; for a TPU, `meta` stands for tensors on the device, the CPU for
    tensors that are uploaded. target: a topology such as `v5e:2x2`, or a platform of this machine such as `cpu`.
    training: forward and backward graphs, else one for inference; modules stay in the mode that they are in. loss:
    takes what the model returns and gives the scalar that is differentiated, by default its `loss`, else the sum
    of its tensors. optimizer: makes an optimizer of parameters; then there is one graph, the step of
    `train_step(model, optimizer, loss)`. options: as of torch.compile, see tpu_dynamo.Options.

    mesh: the sizes of a DeviceMesh over all chips of a topology by the names of its dimensions, as {"dp": 32, "tp": 8}.
    Then `model` is a function that takes the mesh and gives the model, or (model, args) or (model, args, kwargs), on
    the meta device: with DTensors, `parallelize_module` and `fully_shard`, as each rank of a job builds it. Tensors
    among the arguments are those of one rank. The executables are the job's, whose ranks have the chips host by host.

    With `options={"buckets": ...}` and dimensions marked by `mark_dynamic` there is a graph for each bucket within the
    bounds, or of the list.

    explain: compile so that each graph's `peak` is known without compiling it once more; the graphs for a topology have
    no executable then.

    The graphs come in the order of their compilation; a graph break makes several. The process keeps no trace: not
    in Dynamo's caches, the modules, gradients, random numbers or `tpu_dynamo.stats()`. Of a model on the device,
    operators on constants of one element that it makes there (`torch.tensor(2.0, device=x.device).log()`) are computed,
    as they are when torch.compile traces them, and counted.

    Raises UnknownTarget, PlatformUnavailable, OptionError, ValueError for a mesh that the target has not the chips for,
    UnsupportedOp with the problems of all graphs, UnsupportedInput, NeedsValues and CompilationFailed.
    """
    chosen = _options(options, target)
    if mesh is not None:
        check_mesh(mesh, target)
    # The compiler starts in a process of its own while the model is captured here.
    with open_compiler(target) as compiler:
        return compile_with(
            compiler, model, args, kwargs, target, chosen, mesh,
            training=training, loss=loss, optimizer=optimizer, explain=explain,
        )  # fmt: skip


def compile_with(
    compiler: Compiler,
    model: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    target: str,
    options: Options,
    mesh: Mesh | None = None,
    *,
    training: bool = False,
    loss: Callable[..., Any] | None = None,
    optimizer: MakeOptimizer | None = None,
    explain: bool = False,
) -> list[TargetGraph]:
    """Compile a model as `compile_for` does, with a compiler that is open."""
    with contextlib.ExitStack() as stack:
        if mesh is not None:
            model, args, kwargs = built_on(stack.enter_context(imagined_job(mesh)), model, args, kwargs)
        lower = lower_model if optimizer is None else partial(lower_step, optimizer=optimizer)
        programs = lower(
            model,  # pyright: ignore[reportArgumentType]
            args,
            kwargs,
            compiler.platform,
            options,
            training=training,
            loss=loss,
            fast_memory=compiler.fast_memory,
        )
    return [_compiled(compiler, target, program, options.xla_flags, mesh, explain) for program in programs]


def lower_model(
    model: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    platform: str,
    options: Options,
    *,
    training: bool = False,
    loss: Callable[..., Any] | None = None,
    fast_memory: int | None = None,
) -> list[GraphProgram]:
    """Lower a model's graphs to StableHLO programs for `cpu`, `cuda` or `tpu`: the first half of compile_for."""
    programs: list[GraphProgram] = []
    problems: list[Unsupported] = []
    saved_of = SavedByFrame()

    def visit(role: Role, graph_module: GraphModule, example_inputs: Sequence[Any], frame: Frame) -> None:
        graph = prepare_graph(role, graph_module, f"{len(programs):04d}-{role}", frame)
        if options.freeze:
            graph, frozen = graph.frozen({i: example_inputs[i] for i in graph.freezable})
            example_inputs = frozen.inputs(example_inputs)
        try:
            sizes = graph.sizes(example_inputs)
            padding = padding_of(graph, options, saved_of(frame), lambda padded: enter(role, padded, {}))
            if sizes and padding is not None and padding.enter_all(sizes):
                return
            for part, numbers in compiled_parts(graph, sizes, options):
                enter(role, part, numbers)
        except UnsupportedOp as unsupported:
            if options.fallback == "error":
                problems.extend(unsupported.problems)
            else:
                log.warning("graph %s will run in eager PyTorch: %s", graph.name, unsupported)

    def enter(role: Role, graph: PreparedGraph, sizes: Sizes) -> BoxedCallable:
        started = time.perf_counter()
        folder = None if options.dump_dir is None else options.dump_dir / options.target.replace(":", "-")
        artifacts = Artifacts(graph.name, folder, graph.forms)
        program = lower_graph(graph, sizes, platform, artifacts, fast_memory, options.attention)
        log.info("graph %s: lowered in %.2f s", graph.name, time.perf_counter() - started)
        programs.append(
            GraphProgram(graph.name, role, program, artifacts, interface_of(program, graph, platform), graph.span)
        )
        return EagerGraph(graph.eager)

    capture(
        model,
        args,
        kwargs,
        visit,  # pyright: ignore[reportArgumentType]
        training=training,
        loss=loss,
        options=options,
        device=device_of(model, (args, kwargs), platform),
    )
    if problems:
        raise UnsupportedOp(problems)
    if not programs:
        log.warning("no graph was captured: nothing that the model does is one that Dynamo compiles")
    return programs


def lower_step(
    model: torch.nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    platform: str,
    options: Options,
    *,
    optimizer: MakeOptimizer,
    training: bool = True,
    loss: Callable[..., Any] | None = None,
    fast_memory: int | None = None,
) -> list[GraphProgram]:
    """Lower the whole training step of a model, as train_step makes it; the last one if state changes the program."""
    programs: list[GraphProgram] = []

    def visit(graph: PreparedGraph) -> None:
        name = f"{len(programs):04d}-step"
        artifacts = Artifacts(name, options.dump_dir, graph.forms)
        program = lower_graph(graph, {}, platform, artifacts, fast_memory, options.attention)
        programs.append(
            GraphProgram(name, "step", program, artifacts, interface_of(program, graph, platform), graph.span)
        )

    capture_steps(model, [(model_inputs(args, kwargs or {}), ())], visit, optimizer=optimizer, loss=loss)
    return programs[-1:]


def device_of(model: Callable[..., Any], inputs: Any, platform: str) -> str:
    """Return the device to capture on: the model's; for a TPU, `tpu` where the model is on `meta`."""
    leaves = pytree.tree_leaves([inputs, *map(vars, modules_of(model))])
    found = {leaf.device.type for leaf in leaves if isinstance(leaf, torch.Tensor)}
    if DEVICE in found or ("meta" in found and platform == "tpu"):
        with contextlib.suppress(DeviceNameTaken):
            register()
            return DEVICE
    return "cpu"


def _options(given: Mapping[str, Any] | None, target: str) -> Options:
    named = (given or {}).get("target", target)
    if named != target:
        raise OptionError(f"target={target!r}, but options say target={named!r}; leave it out of the options")
    return Options.parse({**(given or {}), "target": target})


def _compiled(
    compiler: Compiler,
    target: str,
    graph: GraphProgram,
    flags: XlaFlags,
    mesh: Mesh | None,
    explain: bool,
) -> TargetGraph:
    program, started = graph.program, time.perf_counter()
    compiled: Compilation | DoesNotFit
    to_count: Compilation | None = None
    try:
        with explaining_xla(compiler.platform, program, graph.artifacts):
            compiled = compiler.compile(program.stablehlo, flags, graph.span, explain=explain)
            to_count = form_to_count(compiler, program.stablehlo, compiled, flags, graph.span)
    except DoesNotFit as too_large:
        memory = memory_needed(program, too_large)
        compiled = refusal_in_words(too_large, memory, graph.interface)
    else:
        memory = compiled.memory
        hlo = compiled.hlo
        graph.artifacts.observe("optimised.hlo", lambda: hlo)
    log.info("graph %s: compiled for %s in %.2f s", graph.name, target, time.perf_counter() - started)
    communication = None
    if mesh is not None and graph.span and isinstance(compiler, TopologyCompiler):
        places = compiler.assignment_of(graph.span)
        communication = partial(communication_of, topology=compiler.topology, places=places, mesh=mesh, span=graph.span)

    def explained() -> Compilation:
        with open_compiler(target) as again:
            return again.compile(program.stablehlo, flags, graph.span, explain=True)

    return TargetGraph(
        graph.name, graph.role, target, program.digest, memory, program, compiled, graph.interface, explained,
        to_count, graph.span, communication,
    )  # fmt: skip
