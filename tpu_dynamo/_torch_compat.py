"""The front door's one door to PyTorch's private APIs: AOTAutograd, Dynamo's names and structured traces."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._dynamo.backends.common import aot_autograd
from torch._functorch import config as functorch_config
from torch._functorch._aot_autograd.descriptors import GradAOTOutput, PlainAOTInput, PlainAOTOutput
from torch._functorch.aot_autograd import aot_export_joint_with_descriptors
from torch._functorch.partitioners import default_partition, min_cut_rematerialization_partition
from torch._guards import TracingContext
from torch._logging import trace_structured
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.fx import GraphModule
from torch.nn.utils.stateless import _reparametrize_module
from torch.utils import _pytree as pytree

__all__ = [
    "FakeTensorMode",
    "JointPlaces",
    "compile_with_aot_autograd",
    "export_joint",
    "fake_copies",
    "forward_returns",
    "graph_tensors",
    "input_name",
    "mark_stepped",
    "size_hint",
    "static_inputs",
    "trace_artifact",
    "trace_event",
    "traced_as_compiled",
    "unset_fake_temporarily",
]

_PARTITIONERS = {"min_cut": min_cut_rematerialization_partition, "default": default_partition}

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
) -> Callable[..., Any]:
    """AOTAutograd around three graph compilers: functional ATen graphs in, a callable for Dynamo out.

    partitioner, activation_memory_budget: as in tpu_dynamo.Options.
    Mutations of inputs are `copy_`s at the end of the graphs. Composite operators come apart, no others: lowering
    decides on the rest, when sizes are numbers.
    """
    compiler = aot_autograd(
        fw_compiler=forward,
        bw_compiler=backward,
        inference_compiler=inference,
        partition_fn=_PARTITIONERS[partitioner],
        decompositions={},
        keep_inference_input_mutations=True,
    )
    with functorch_config.patch(activation_memory_budget=activation_memory_budget):
        return compiler(graph_module, list(example_inputs))


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
def fake_copies(model: Any, inputs: Any) -> Iterator[Any]:
    """`inputs` as fake CPU tensors, while `model`'s parameters and buffers are fake too; nothing then computes."""
    with FakeTensorMode(allow_non_fake_inputs=True):

        def fake(tensor: torch.Tensor) -> torch.Tensor:
            copy = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
            return copy.requires_grad_(tensor.requires_grad)

        state: dict[str, torch.Tensor] = {}
        if isinstance(model, torch.nn.Module):
            state = {name: fake(t) for name, t in (*model.named_parameters(), *model.named_buffers())}
        context = _reparametrize_module(model, state) if state else contextlib.nullcontext()
        with context:
            yield pytree.tree_map_only(torch.Tensor, fake, inputs)


def traced_as_compiled() -> contextlib.AbstractContextManager[None]:
    """A context in which torch.compiler.is_compiling() is true, as while Dynamo traces: optimizers then keep numbers
    in tensors."""
    return torch.compiler._compile_session_context()


def mark_stepped(optimizer: torch.optim.Optimizer) -> None:
    """Tell learning rate schedulers, which warn otherwise, that the optimizer has made its step."""
    optimizer._opt_called = True  # type: ignore[attr-defined]


def trace_artifact(name: str, write: Callable[[], str]) -> None:
    """A form of a graph for the structured trace, which tlparse shows; `write` runs only while somebody reads forms."""
    # The report reads records and no forms; an optimised program's text can take longer than compiling it.
    if any(getattr(handler, "reads_forms", True) for handler in logging.getLogger("torch.__trace").handlers):
        trace_event(name, write)


def trace_event(name: str, write: Callable[[], str]) -> None:
    """An artifact of the structured trace; `write` runs only while somebody reads the trace."""
    trace_structured("artifact", metadata_fn=lambda: {"name": name, "encoding": "string"}, payload_fn=write)
