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
    SubclassGetAttrAOTInput,
    SubclassGetAttrAOTOutput,
)
from torch._functorch.aot_autograd import aot_export_joint_with_descriptors
from torch._library.fake_class_registry import FakeScriptObject
from torch.fx import Graph, GraphModule, Node
from torch.nn import Module

from tpu_dynamo_lowering import own_definitions

from .ranks import tracing_for_all_ranks

_LOCAL = "_local_tensor"  # the attribute of a DTensor that has its values
_TOKEN_INPUTS = ForwardTokenAOTInput, BackwardTokenAOTInput
_TOKEN_OUTPUTS = ForwardTokenAOTOutput, BackwardTokenAOTOutput


@dataclass(frozen=True)
class JointPlaces:
    """The inputs and outputs of a joint graph, in terms of the traced graph's.

    inputs: for each its position among the traced graph's inputs, None for the gradient of an output. The
    local tensor of a DTensor is at the DTensor's position, here and in what follows. outputs: for each
    output of the traced graph its position among the joint graph's. gradients: for each input of the traced graph that
    has a gradient, by position, that gradient's position among the joint graph's outputs.
    """

    inputs: list[int | None]
    outputs: list[int]
    gradients: dict[int, int]


def export_joint(graph_module: Module, inputs: Sequence[Any]) -> tuple[GraphModule, JointPlaces]:
    """Return the forward and backward of a graph of Dynamo's, or of a module, as one functional ATen graph.

    inputs: numbers, and fake tensors or DTensors of them, of which those that require gradients are differentiated for.
    The graph has the local tensors of DTensors. Writes to inputs are `copy_`s at the end. Composite operators are
    decomposed, no others.
    """
    with contextlib.ExitStack() as stack, torch.enable_grad(), own_definitions(), tracing_for_all_ranks():
        exported = aot_export_joint_with_descriptors(
            stack, graph_module, tuple(inputs), decompositions={}, keep_inference_input_mutations=True
        )
    found = exported.graph_module
    _make_tokens(found.graph)
    _keep_meshes(found)
    placeholders = [node.meta["desc"] for node in found.graph.find_nodes(op="placeholder")]
    results = found.graph.output_node()
    values: Any = results.args[0]
    outputs: dict[int, int] = {}
    gradients: dict[int, int] = {}
    for i, (value, described) in enumerate(zip(values, results.meta["desc"], strict=True)):
        if isinstance(described, SubclassGetAttrAOTOutput):
            if described.attr != _LOCAL:
                continue
            described = described.base
        if isinstance(described, PlainAOTOutput):
            outputs[described.idx] = i
        elif isinstance(described, GradAOTOutput) and isinstance(described.grad_of, PlainAOTInput):
            gradients |= {described.grad_of.idx: i} if value is not None else {}
        elif value is not None and not isinstance(described, _TOKEN_OUTPUTS):
            raise NotImplementedError(f"a captured loss with the output {described}")
    inputs_ = [_position(one) for one in placeholders]
    return found, JointPlaces(inputs_, [outputs[i] for i in range(len(outputs))], gradients)


def _position(described: Any) -> int | None:
    if isinstance(described, SubclassGetAttrAOTInput) and described.attr == _LOCAL:
        described = described.base
    return described.idx if isinstance(described, PlainAOTInput) else None


def _make_tokens(graph: Graph) -> None:
    """Let the tokens that order operators with effects begin in the graph instead of as its inputs, in place."""
    for node in graph.find_nodes(op="placeholder"):
        if isinstance(node.meta["desc"], _TOKEN_INPUTS):
            with graph.inserting_before(node.next):
                token = graph.call_function(torch.ops.prims._make_token.default)
            token.meta["val"] = node.meta["val"]
            node.replace_all_uses_with(token)
            graph.erase_node(node)


def _keep_meshes(graph_module: GraphModule) -> None:
    """Let the meshes of DTensors be constants of the graph instead of inputs or literals, in place."""
    graph, names = graph_module.graph, {}

    def constant(value: Any, before: Node) -> Node:
        """Return a node of a mesh."""
        real = value.real_obj if isinstance(value, FakeScriptObject) else value
        if id(real) not in names:
            names[id(real)] = f"_mesh{len(names)}"
            setattr(graph_module, names[id(real)], real)
        with graph.inserting_before(before):
            made = graph.create_node("get_attr", names[id(real)])  # `get_attr` warns of what is no tensor
        made.meta["val"] = real
        return made

    for node in list(graph.nodes):
        described = node.meta.get("desc")
        if isinstance(described, SubclassGetAttrAOTInput) and described.attr != _LOCAL:
            if node.users:
                node.replace_all_uses_with(constant(node.meta["val"], node.next))
            graph.erase_node(node)
        elif node.op == "call_function" and any(map(_is_mesh, node.args)):
            node.args = tuple(constant(each, node) if _is_mesh(each) else each for each in node.args)


def _is_mesh(value: Any) -> bool:
    real = value.real_obj if isinstance(value, FakeScriptObject) else value
    return type(real).__name__ == "DeviceMesh"
