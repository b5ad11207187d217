"""The front door's one door to PyTorch's private APIs: AOTAutograd, Dynamo's names and structured traces."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from inspect import CO_VARARGS, CO_VARKEYWORDS
from types import CodeType
from typing import Any

import torch
from torch._C._dynamo.eval_frame import _get_cache_entries_for_region
from torch._dynamo import config, convert_frame, disable, pgo
from torch._dynamo.exc import BackendCompilerFailed
from torch._dynamo.guards import DeletedGuardManagerWrapper
from torch._dynamo.utils import counters, flatten_graph_inputs
from torch._functorch import config as functorch_config
from torch._functorch._aot_autograd.descriptors import GradAOTOutput, PlainAOTInput, PlainAOTOutput
from torch._functorch.aot_autograd import aot_export_joint_with_descriptors, aot_module_simplified
from torch._functorch.partitioners import default_partition, min_cut_rematerialization_partition
from torch._guards import TracingContext
from torch._logging import trace_structured
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.compiler._cache import CacheArtifact, CacheArtifactFactory, CacheArtifactRecorder
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from ._torch_autograd_cache import Compilers, compile_kept

__all__ = [
    "BackendCompilerFailed",
    "CacheArtifact",
    "CacheArtifactFactory",
    "CacheArtifactRecorder",
    "DataDependentOutputException",
    "DynamicOutputShapeException",
    "FakeTensorMode",
    "JointPlaces",
    "compile_with_aot_autograd",
    "compiled_apart",
    "export_joint",
    "fake_copies",
    "forms_are_read",
    "forward_returns",
    "graph_tensors",
    "guards",
    "input_name",
    "mark_stepped",
    "modules_of",
    "shape_guards",
    "size_hint",
    "static_inputs",
    "trace_artifact",
    "trace_event",
    "traced_as_compiled",
    "unset_fake_temporarily",
]

_PARTITIONERS = {"min_cut": min_cut_rematerialization_partition, "default": default_partition}


@dataclass(frozen=True)
class Kept:
    """How torch's cache of AOTAutograd's results is used; see `_torch_autograd_cache.compile_kept`."""

    tag: str
    told: Callable[[str], None]


GraphCompiler = Callable[[GraphModule, Sequence[Any]], Callable[..., Any]]


def compile_with_aot_autograd(
    graph_module: GraphModule,
    example_inputs: Sequence[Any],
    *,
    forward: GraphCompiler,
    backward: GraphCompiler,
    inference: GraphCompiler,
    partitioner: str = "min_cut",
    activation_memory_budget: float = 1.0,
    kept: Kept | None = None,
) -> Callable[..., Any]:
    """AOTAutograd around three graph compilers: functional ATen graphs in, a callable for Dynamo out.

    partitioner, activation_memory_budget: as in tpu_dynamo.Options. kept: where torch's cache may have what comes out;
    the compilers then give OutputCodes.
    Mutations of inputs are `copy_`s at the end of the graphs. Composite operators come apart, no others: lowering
    decides on the rest, when sizes are numbers.
    """
    if any(isinstance(value, list | tuple | dict) for value in example_inputs):

        def flat(module: GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
            return compile_with_aot_autograd(
                module,
                inputs,
                forward=forward,
                backward=backward,
                inference=inference,
                partitioner=partitioner,
                activation_memory_budget=activation_memory_budget,
            )

        return flatten_graph_inputs(graph_module, list(example_inputs), flat)

    def backward_undisturbed(module: GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        compile_undisturbed: Any = disable(backward, reason="it compiles")
        return disable(compile_undisturbed(module, inputs), reason="it is compiled")

    counters["aot_autograd"]["total"] += 1
    with functorch_config.patch(activation_memory_budget=activation_memory_budget), _aot_logging():
        if kept is not None:
            compilers = Compilers(forward, backward_undisturbed, inference, _PARTITIONERS[partitioner])
            compiled = compile_kept(graph_module, list(example_inputs), compilers, kept.tag, kept.told)
        else:
            compilers: Any = {"fw": forward, "bw": backward_undisturbed, "inference": inference}
            compiled = aot_module_simplified(
                graph_module,
                list(example_inputs),
                **{f"{name}_compiler": compiler for name, compiler in compilers.items()},
                partition_fn=_PARTITIONERS[partitioner],
                decompositions={},
                keep_inference_input_mutations=True,
            )
    counters["aot_autograd"]["ok"] += 1
    return disable(compiled, reason="it is compiled")


def _aot_logging() -> contextlib.AbstractContextManager[Any]:
    # torch's own aot_autograd() does as we do, but imports Inductor's IR each time for this, which takes 0.3 s.
    if os.environ.get("TORCH_COMPILE_DEBUG") != "1":
        return contextlib.nullcontext()
    from torch._inductor.debug import enable_aot_logging

    return enable_aot_logging()


@dataclass(frozen=True)
class JointPlaces:
    """What the inputs and outputs of a joint graph are.

    inputs: for each the position among the traced graph's inputs, None for the gradient of an output. outputs: for
    each output of the traced graph the number of the joint graph's. gradients: the same for inputs that have one.
    """

    inputs: list[int | None]
    outputs: list[int]
    gradients: dict[int, int]


def export_joint(graph_module: GraphModule, inputs: Sequence[Any]) -> tuple[GraphModule, JointPlaces]:
    """Forward and backward of a graph of Dynamo's as one functional ATen graph.

    inputs: fake tensors that say what requires a gradient, and numbers. Writes to inputs are `copy_`s at the end.
    Composite operators come apart, no others.
    """
    with contextlib.ExitStack() as stack, torch.enable_grad():
        exported = aot_export_joint_with_descriptors(
            stack, graph_module, tuple(inputs), decompositions={}, keep_inference_input_mutations=True
        )
    found = exported.graph_module
    placeholders = [node.meta["desc"] for node in found.graph.find_nodes(op="placeholder")]
    results = found.graph.output_node()
    values: Any = results.args[0]
    outputs: dict[int, int] = {}
    gradients: dict[int, int] = {}
    for i, (value, described) in enumerate(zip(values, results.meta["desc"], strict=True)):
        if isinstance(described, PlainAOTOutput):
            outputs[described.idx] = i
        elif isinstance(described, GradAOTOutput) and isinstance(described.grad_of, PlainAOTInput):
            gradients |= {described.grad_of.idx: i} if value is not None else {}
        elif value is not None:
            raise NotImplementedError(f"a captured loss with the output {described}")
    inputs_ = [one.idx if isinstance(one, PlainAOTInput) else None for one in placeholders]
    return found, JointPlaces(inputs_, [outputs[i] for i in range(len(outputs))], gradients)


def static_inputs(graph_module: GraphModule, backward: bool) -> set[int]:
    """Positions of the graph's inputs that are a model's parameters and buffers, the same at every call.

    In a backward graph: those of them that the forward graph saved.
    """
    context = TracingContext.try_get()
    metadata = context.fw_metadata if context is not None else None
    static = set(metadata.static_input_indices or ()) if metadata is not None else set()
    if not backward:
        return static
    names = [node.name for node in graph_module.graph.find_nodes(op="placeholder")]
    primals = {f"primals_{position + 1}" for position in static}
    return {i for i, name in enumerate(names) if name in primals}


_OWN_FOLDER = os.path.dirname(__file__) + os.sep


def frame_function() -> str:
    """The qualified name of the function that Dynamo compiles, as `Model.forward`; empty where it compiles none."""
    context = TracingContext.try_get()
    traced = context.traced_code if context is not None else []
    if traced and _wraps(traced[0]):
        # Behind it is what was inlined, each function after those that it calls.
        inlined = [code for code in reversed(traced) if not _wraps(code)]
        traced = [code for code in inlined if code.co_name == "forward"] or inlined
    return traced[0].co_qualname if traced else ""


def _wraps(code: CodeType) -> bool:
    """Whether a function is Dynamo's own, as around nn.Sequential, ours, or a decorator's, which takes anything."""
    takes_anything = CO_VARARGS | CO_VARKEYWORDS
    own = "/torch/_dynamo/" in code.co_filename or code.co_filename.startswith(_OWN_FOLDER)
    return own or code.co_flags & takes_anything == takes_anything


def guards() -> list[str]:
    """The guards of the frame that Dynamo compiles: kind and source, without values, which are not yet known."""
    context = TracingContext.try_get()
    if context is None:
        return []
    everything = ((guard.create_fn_name(), guard.name) for guard in context.guards_context.dynamo_guards)
    # What is inside of modules are hundreds in a model, and says little; it differs where the graph does.
    found = {f"{kind} {name}" for kind, name in everything if name.startswith("L[") and "._" not in name}
    # Names that Dynamo makes up can have addresses in them.
    return sorted({re.sub(r"\d{6,}", "#", guard) for guard in found})


def shape_guards() -> list[str]:
    """Conditions on the sizes of the frame that Dynamo compiles, and their ranges, in terms of its variables."""
    context = TracingContext.try_get()
    shapes = context.fake_mode.shape_env if context is not None and context.fake_mode is not None else None
    if shapes is None:
        return []
    names = {str(symbol): sources[0].name for symbol, sources in shapes.var_to_sources.items() if sources}

    def named(text: str) -> str:
        return re.sub(r"\b[a-z]+\d+\b", lambda match: str(names.get(match[0], match[0])), text)

    ranges = [f"{r.lower} <= {named(str(s))} <= {r.upper}" for s, r in shapes.var_to_range.items() if str(s) in names]
    return sorted({*ranges, *(named(str(guard.expr)) for guard in shapes.guards)})


def forward_returns() -> int:
    """How many outputs of the forward graph that AOTAutograd compiles now are the caller's; the others are saved."""
    metadata = TracingContext.get().fw_metadata
    assert metadata is not None
    return metadata.num_forward


def graph_tensors(graph_module: GraphModule) -> list[torch.Tensor]:
    """The fake tensors that a graph takes and gives."""
    graph = graph_module.graph
    nodes = [*graph.find_nodes(op="placeholder"), *graph.output_node().all_input_nodes]
    return [node.meta["val"] for node in nodes if isinstance(node.meta.get("val"), torch.Tensor)]


def size_hint(value: Any) -> int | float:
    """The number that a size had when its graph was traced; reading it adds no guard."""
    return value.node.hint if isinstance(value, torch.SymInt | torch.SymFloat) else value


def input_name(placeholder: torch.fx.Node) -> str:
    """A graph input as Dynamo names it in Python's terms, such as `L['x']`."""
    name = getattr(getattr(placeholder, "_dynamo_source", None), "name", None)
    return name if isinstance(name, str) else placeholder.name


@contextlib.contextmanager
def compiled_apart(
    function: Callable[..., Any], backend: Callable[..., Any], dynamic: bool | None = None
) -> Iterator[Callable[..., Any]]:
    """`function` under torch.compile, such that Dynamo afterwards knows nothing of it.

    Neither its cached code, nor the sizes it has seen, nor its counts; other threads compile before or after.
    """
    with (
        convert_frame.compile_lock,
        config.patch(automatic_dynamic_local_pgo=False, automatic_dynamic_remote_pgo=False),
    ):
        sizes_seen, pgo._CODE_STATE = pgo._CODE_STATE, defaultdict(pgo.CodeState)
        counts = {name: counter.copy() for name, counter in counters.items()}
        compiled = torch.compile(function, backend=backend, dynamic=dynamic, isolate_recompiles=True)  # type: ignore[call-overload]
        try:
            yield compiled
        finally:
            pgo._CODE_STATE = sizes_seen
            counters.clear()
            counters.update(counts)
            context = getattr(compiled, "dynamo_ctx", compiled)
            _forget_region(context._isolate_recompiles_id)


def _forget_region(region: int) -> None:
    """Empty the cache entries of one isolated torch.compile call, which would live as long as the user's functions."""
    for reference in list(convert_frame.input_codes.seen):
        if (code := reference()) is not None:
            for entry in _get_cache_entries_for_region(code, region):
                state = entry.guard_manager.extra_state
                if state is not None:
                    state.invalidate(entry, DeletedGuardManagerWrapper("it was compiled ahead of time"))


def modules_of(model: Any) -> list[torch.nn.Module]:
    """A module and those within it, also of a method of one; of other functions none are known."""
    owner = model if isinstance(model, torch.nn.Module) else getattr(model, "__self__", None)
    return list(owner.modules()) if isinstance(owner, torch.nn.Module) else []


@contextlib.contextmanager
def fake_copies(model: Any, inputs: Any, device: str) -> Iterator[Any]:
    """`inputs` as fake tensors on `device`, while `model`'s tensors are fake too; nothing then computes.

    Tensors that are one stay one. Afterwards the modules have their own tensors and attributes again, whatever the
    model's code did to them. The model is a module, a method of one, or a function of its inputs alone.
    """
    fakes: dict[int, torch.Tensor] = {}

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in fakes:
            shape, stride = ([int(size_hint(n)) for n in sizes] for sizes in (tensor.shape, tensor.stride()))
            copy = torch.empty_strided(shape, stride, dtype=tensor.dtype, device=device)
            is_parameter = isinstance(tensor, torch.nn.Parameter)
            copy = torch.nn.Parameter(copy, tensor.requires_grad) if is_parameter else copy
            fakes[id(tensor)] = copy.requires_grad_(tensor.requires_grad)
        return fakes[id(tensor)]

    modules = modules_of(model)
    with FakeTensorMode(allow_non_fake_inputs=True), contextlib.ExitStack() as restored:
        for module in modules:
            restored.enter_context(_attributes_kept(module))
        for module in modules:
            for name, value in list(vars(module).items()):
                if any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(value)):
                    vars(module)[name] = pytree.tree_map_only(torch.Tensor, fake, value)
        yield pytree.tree_map_only(torch.Tensor, fake, inputs)


@contextlib.contextmanager
def _attributes_kept(module: torch.nn.Module) -> Iterator[None]:
    """Give a module its present attributes back at the end, its lists and registries their present members."""
    attributes = vars(module).copy()
    members = [(value, value.copy()) for value in attributes.values() if type(value) in (dict, list, set)]
    try:
        yield
    finally:
        vars(module).clear()
        vars(module).update(attributes)
        for value, copy in members:
            if isinstance(value, list):
                value[:] = copy
            else:
                value.clear()
                value.update(copy)


def traced_as_compiled() -> contextlib.AbstractContextManager[None]:
    """A context in which torch.compiler.is_compiling() is true, as while Dynamo traces: optimizers then keep numbers
    in tensors."""
    return torch.compiler._compile_session_context()


def mark_stepped(optimizer: torch.optim.Optimizer) -> None:
    """Tell learning rate schedulers, which warn otherwise, that the optimizer has made its step."""
    optimizer._opt_called = True  # type: ignore[attr-defined]


def trace_artifact(name: str, write: Callable[[], str]) -> None:
    """A form of a graph for the structured trace, which tlparse shows; `write` runs only while somebody reads forms."""
    if forms_are_read():
        trace_event(name, write)


def forms_are_read() -> bool:
    """Whether somebody reads the forms of graphs in the structured trace."""
    # The report reads records and no forms; an optimised program's text can take longer than compiling it.
    return any(getattr(handler, "reads_forms", True) for handler in logging.getLogger("torch.__trace").handlers)


def trace_event(name: str, write: Callable[[], str]) -> None:
    """An artifact of the structured trace; `write` runs only while somebody reads the trace."""
    trace_structured("artifact", metadata_fn=lambda: {"name": name, "encoding": "string"}, payload_fn=write)
