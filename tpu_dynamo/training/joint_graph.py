"""A loss's graph with its gradients: forward and backward as one functional ATen graph."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from .._torch_compat import FakeTensorMode, JointPlaces, export_joint, local_of, sharded, sharding_of
from ..errors import NotALoss

_WANTED = (
    "the loss function must return a tensor of one floating-point element that depends on the optimizer's parameters, "
    "or a tuple that begins with one"
)


@dataclass(frozen=True)
class Joint:
    """Forward and backward of a captured loss.

    graph_module: ATen, functional but for `copy_`s to inputs at its end; forward nodes that are to be computed again
    for the backward carry `recompute` in their metadata. places: its inputs and outputs in terms of the captured
    graph's.
    """

    graph_module: GraphModule
    places: JointPlaces


def joint(graph_module: GraphModule, inputs: Sequence[Any], parameters: Collection[int], mode: FakeTensorMode) -> Joint:
    """Return the joint graph of a graph that Dynamo captured, for inputs of these shapes, dtypes and devices.

    inputs: tensors, of which only the metadata is read, and numbers. parameters: positions of the inputs to
    differentiate for.
    """
    fakes = [_fake(value, i in parameters, mode) for i, value in enumerate(inputs)]
    return Joint(*export_joint(_with_gradients_as_parameters(graph_module, fakes, parameters), fakes))


def _as_it_is(parameter: Any) -> Any:
    return parameter.redistribute(placements=parameter.placements)


def _with_gradients_as_parameters(
    graph_module: GraphModule, inputs: Sequence[Any], parameters: Collection[int]
) -> GraphModule:
    """Return the graph such that gradients of DTensors have their placements: others may be sums yet to be made."""
    placeholders = graph_module.graph.find_nodes(op="placeholder")
    wanted = {placeholders[i].name for i in parameters if sharding_of(inputs[i]) is not None}
    if not wanted:
        return graph_module
    copy = GraphModule(graph_module, _copied(graph_module.graph))
    for node in copy.graph.find_nodes(op="placeholder"):
        if node.name in wanted:
            with copy.graph.inserting_after(node):
                placed = copy.graph.call_function(_as_it_is, (node,))
            placed.meta.update(node.meta)
            node.replace_all_uses_with(placed, lambda user, placed=placed: user is not placed)
    copy.recompile()
    return copy


def _copied(graph: Graph) -> Graph:
    copy = Graph()
    copy.output(copy.graph_copy(graph, {}))
    return copy


def _fake(value: Any, differentiated: bool, mode: FakeTensorMode) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    local, sharding = local_of(value), sharding_of(value)
    with mode:
        fake = torch.empty_strided(local.shape, local.stride(), dtype=local.dtype, device=local.device)
    if sharding is not None:
        return sharded(fake, sharding, differentiated)
    return fake.requires_grad_(differentiated)


def check_loss(graph_module: GraphModule) -> None:
    """Raise NotALoss unless just one output of Dynamo's graph requires a gradient, and that is one float."""
    outputs: Any = graph_module.graph.output_node().args[0]
    fakes = [output.meta["example_value"] for output in outputs if isinstance(output, Node)]
    wanting = [fake for fake in fakes if isinstance(fake, torch.Tensor) and fake.requires_grad]
    if not wanting:
        raise NotALoss(f"{_WANTED}: nothing that it returns requires a gradient")
    if len(wanting) > 1:
        raise NotALoss(
            f"{_WANTED}: {len(wanting)} results of the captured graph require gradients; detach what is not the loss"
        )
    if wanting[0].numel() != 1 or not wanting[0].is_floating_point():
        raise NotALoss(f"{_WANTED}: it is a {wanting[0].dtype} tensor of shape {tuple(wanting[0].shape)}")
