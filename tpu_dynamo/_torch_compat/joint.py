"""AOTAutograd, which makes one graph of the forward and backward of a captured graph."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._functorch._aot_autograd.descriptors import (
    BackwardTokenAOTInput,
    BackwardTokenAOTOutput,
    ForwardTokenAOTInput,
    ForwardTokenAOTOutput,
    GradAOTOutput,
    PlainAOTInput,
    PlainAOTOutput,
)
from torch._functorch.aot_autograd import aot_export_joint_with_descriptors
from torch.fx import Graph, GraphModule

from tpu_dynamo_lowering import own_definitions

from .ranks import tracing_for_all_ranks

_TOKEN_INPUTS = ForwardTokenAOTInput, BackwardTokenAOTInput
_TOKEN_OUTPUTS = ForwardTokenAOTOutput, BackwardTokenAOTOutput


@dataclass(frozen=True)
class JointPlaces:
    """The inputs and outputs of a joint graph, in terms of the traced graph's.

    inputs: for each its position among the traced graph's inputs, None for the gradient of an output. outputs: for each
    output of the traced graph its position among the joint graph's. gradients: for each input of the traced graph that
    has a gradient, by position, that gradient's position among the joint graph's outputs.
    """

    inputs: list[int | None]
    outputs: list[int]
    gradients: dict[int, int]


def export_joint(graph_module: GraphModule, inputs: Sequence[Any]) -> tuple[GraphModule, JointPlaces]:
    """Return the forward and backward of a graph of Dynamo's as one functional ATen graph.

    inputs: numbers, and fake tensors, of which those that require gradients are differentiated for. Writes to inputs
    are `copy_`s at the end. Composite operators are decomposed, no others.
    """
    with contextlib.ExitStack() as stack, torch.enable_grad(), own_definitions(), tracing_for_all_ranks():
        exported = aot_export_joint_with_descriptors(
            stack, graph_module, tuple(inputs), decompositions={}, keep_inference_input_mutations=True
        )
    found = exported.graph_module
    _make_tokens(found.graph)
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
        elif value is not None and not isinstance(described, _TOKEN_OUTPUTS):
            raise NotImplementedError(f"a captured loss with the output {described}")
    inputs_ = [one.idx if isinstance(one, PlainAOTInput) else None for one in placeholders]
    return found, JointPlaces(inputs_, [outputs[i] for i in range(len(outputs))], gradients)


def _make_tokens(graph: Graph) -> None:
    """Let the tokens that order operators with effects begin in the graph instead of as its inputs, in place."""
    for node in graph.find_nodes(op="placeholder"):
        if isinstance(node.meta["desc"], _TOKEN_INPUTS):
            with graph.inserting_before(node.next):
                token = graph.call_function(torch.ops.prims._make_token.default)
            token.meta["val"] = node.meta["val"]
            node.replace_all_uses_with(token)
            graph.erase_node(node)
