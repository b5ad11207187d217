"""The front door's one door to PyTorch's private APIs: AOTAutograd, Dynamo's names and structured traces."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch._guards import TracingContext
from torch._logging import trace_structured
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.fx import GraphModule
from torch.nn.utils.stateless import _reparametrize_module
from torch.utils import _pytree as pytree

__all__ = [
    "compile_with_aot_autograd",
    "fake_copies",
    "graph_tensors",
    "input_name",
    "size_hint",
    "static_inputs",
    "trace_artifact",
    "trace_event",
    "unset_fake_temporarily",
]

GraphCompiler = Callable[[GraphModule, Sequence[Any]], Callable[..., Any]]


def compile_with_aot_autograd(
    graph_module: GraphModule,
    example_inputs: Sequence[Any],
    *,
    forward: GraphCompiler,
    backward: GraphCompiler,
    inference: GraphCompiler,
) -> Callable[..., Any]:
    """AOTAutograd around three graph compilers: functional ATen graphs in, a callable for Dynamo out.

    Mutations of inputs are taken out of the graphs and done after them. Composite operators come apart, no
    others: lowering decides on the rest, when sizes are numbers.
    """
    compiler = aot_autograd(
        fw_compiler=forward,
        bw_compiler=backward,
        inference_compiler=inference,
        partition_fn=min_cut_rematerialization_partition,
        decompositions={},
        keep_inference_input_mutations=False,
    )
    return compiler(graph_module, list(example_inputs))


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


def trace_artifact(name: str, write: Callable[[], str]) -> None:
    """A form of a graph for the structured trace, which tlparse shows; `write` runs only while somebody reads forms."""
    # The report reads records and no forms; an optimised program's text can take longer than compiling it.
    if any(getattr(handler, "reads_forms", True) for handler in logging.getLogger("torch.__trace").handlers):
        trace_event(name, write)


def trace_event(name: str, write: Callable[[], str]) -> None:
    """An artifact of the structured trace; `write` runs only while somebody reads the trace."""
    trace_structured("artifact", metadata_fn=lambda: {"name": name, "encoding": "string"}, payload_fn=write)
