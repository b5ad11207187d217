"""AOTAutograd: functional ATen graphs out of those that Dynamo captured."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._dynamo import disable
from torch._dynamo.utils import counters, flatten_graph_inputs
from torch._functorch import config as functorch_config
from torch._functorch._aot_autograd.descriptors import GradAOTOutput, PlainAOTInput, PlainAOTOutput
from torch._functorch.aot_autograd import aot_export_joint_with_descriptors, aot_module_simplified
from torch._functorch.partitioners import default_partition, min_cut_rematerialization_partition
from torch._guards import TracingContext
from torch.fx import GraphModule

from .autograd_cache import Compilers, compile_kept

_PARTITIONERS = {"min_cut": min_cut_rematerialization_partition, "default": default_partition}

GraphCompiler = Callable[[GraphModule, Sequence[Any]], Callable[..., Any]]


@dataclass(frozen=True)
class Kept:
    """How torch's cache of AOTAutograd's results is used; see `autograd_cache.compile_kept`."""

    tag: str
    told: Callable[[str], None]


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


def forward_returns() -> int:
    """How many outputs of the forward graph that AOTAutograd compiles now are the caller's; the others are saved."""
    metadata = TracingContext.get().fw_metadata
    assert metadata is not None
    return metadata.num_forward
