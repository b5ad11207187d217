"""options={"freeze": True}: parameters as constants of a graph, and what is computed from them alone computed once."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from .._torch_compat import OpOverload
from ..options import OptionError

aten = torch.ops.aten


@dataclass(frozen=True)
class FrozenModule:
    """A graph whose parameters are constants.

    module: takes the inputs at the positions `moving` of the whole graph, then `values`.
    """

    module: GraphModule
    values: list[torch.Tensor]
    moving: list[int]

    def inputs(self, given: Sequence[Any]) -> list[Any]:
        """Return the module's inputs, from the whole graph's inputs."""
        return [*(given[position] for position in self.moving), *self.values]


def check_role(role: str) -> None:
    """Raise OptionError for graphs whose parameters are about to change."""
    if role != "inference":
        raise OptionError(
            "freeze=True makes constants of parameters, and this graph computes gradients for them\n"
            "  try: call it under torch.no_grad() or torch.inference_mode(), or leave freeze out"
        )


def freezable(graph_module: GraphModule, static: Collection[int]) -> list[int]:
    """Return those of the positions `static` whose inputs the graph only reads, and does not return."""
    placeholders = graph_module.graph.find_nodes(op="placeholder")
    return [
        i for i in sorted(static) if not any(user.op == "output" or _writes(user) for user in placeholders[i].users)
    ]


def freeze(graph_module: GraphModule, parameters: Mapping[int, torch.Tensor]) -> FrozenModule:
    """Return a copy of the graph with constants in the place of some inputs.

    parameters: tensors by the positions of their inputs. What depends on them alone is computed here, in eager, where
    it takes no more memory than they do. A batch norm with fixed statistics becomes part of the convolution before it.
    """
    owner = GraphModule(graph_module, Graph())
    graph = owner.graph
    copies: dict[Node, Node] = {}
    for node in graph_module.graph.nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    placeholders = graph.find_nodes(op="placeholder")
    known = {placeholders[i]: tensor.detach() for i, tensor in parameters.items()}
    with torch.no_grad():
        _compute(graph, owner, known)
        _join_batch_norms(graph, known)
    moving = [i for i in range(len(placeholders)) if i not in parameters]
    return FrozenModule(*_with_values_as_inputs(owner, [placeholders[i] for i in moving], known), moving)


def _compute(graph: Graph, owner: GraphModule, known: dict[Node, torch.Tensor]) -> None:
    """Add to `known` what can be computed from it."""
    constants = {node: getattr(owner, str(node.target)) for node in graph.find_nodes(op="get_attr")}
    values = ChainMap(known, constants)
    for node in graph.nodes:
        needed = node.all_input_nodes
        if not _is_pure(node) or not any(each in known for each in needed):
            continue
        if all(isinstance(values.get(each), torch.Tensor) for each in needed) and _is_small(node, needed):
            args, kwargs = torch.fx.map_arg((node.args, node.kwargs), values.__getitem__)
            known[node] = node.target(*args, **kwargs)


def _is_pure(node: Node) -> bool:
    operator = node.target
    if not isinstance(operator, OpOverload) or not isinstance(node.meta.get("val"), torch.Tensor):
        return False
    return not operator._schema.is_mutable and torch.Tag.nondeterministic_seeded not in operator.tags


def _is_small(node: Node, needed: Sequence[Node]) -> bool:
    size, sizes = node.meta["val"].numel(), [each.meta["val"].numel() for each in needed]
    return all(isinstance(n, int) for n in (size, *sizes)) and size <= sum(sizes)


def _writes(node: Node) -> bool:
    return isinstance(node.target, OpOverload) and node.target._schema.is_mutable


def _join_batch_norms(graph: Graph, known: dict[Node, torch.Tensor]) -> None:
    """Let convolutions do what the batch norms behind them do: scale and shift channels by fixed numbers."""
    for norm in graph.find_nodes(op="call_function", target=aten._native_batch_norm_legit_no_training.default):
        convolution, scale, shift, mean, variance, _, epsilon = norm.args
        if convolution.target is not aten.convolution.default or len(convolution.users) > 1:
            continue
        _, weight, bias, *_, transposed, _, _ = convolution.args
        tensors = [weight, bias, scale, shift, mean, variance]
        if transposed or not all(each is None or each in known for each in tensors):
            continue
        joined = _joined(*(known.get(each) for each in tensors), epsilon)
        if joined is None:
            continue
        with graph.inserting_before(next(iter(graph.nodes))):
            nodes = [_placeholder(graph, f"{norm.name}_{i}", t, weight.meta["val"]) for i, t in enumerate(joined)]
        known |= zip(nodes, joined, strict=True)
        convolution.args = (convolution.args[0], *nodes, *convolution.args[3:])
        for user in [user for user in norm.users if user.args[1] == 0]:
            user.replace_all_uses_with(convolution)
            graph.erase_node(user)


def _joined(
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: torch.Tensor | None,
    shift: torch.Tensor | None,
    mean: torch.Tensor,
    variance: torch.Tensor,
    epsilon: float,
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return the weight and bias of one convolution that does what convolution and batch norm do.

    None where the norm computes in a wider type.
    """
    if mean.dtype != weight.dtype:
        return None
    factor = torch.rsqrt(variance + epsilon) * (1 if scale is None else scale)
    offset = (-mean if bias is None else bias - mean) * factor
    by_channel = factor.reshape(-1, *(1 for _ in weight.shape[1:]))
    return weight * by_channel, offset if shift is None else offset + shift


def _placeholder(graph: Graph, name: str, tensor: torch.Tensor, like: torch.Tensor) -> Node:
    node = graph.placeholder(name)
    node.meta["val"] = like.new_empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
    return node


def _with_values_as_inputs(
    owner: GraphModule, moving: Sequence[Node], known: Mapping[Node, torch.Tensor]
) -> tuple[GraphModule, list[torch.Tensor]]:
    """Return the graph whose inputs are `moving` and then the values that it needs of `known`, and these values."""
    owner.graph.eliminate_dead_code()
    values = {node: _packed(node, known) for node in known if any(user not in known for user in node.users)}
    graph = Graph(owner)
    copies = {node: graph.node_copy(node) for node in moving}
    for i, (node, value) in enumerate(values.items()):
        copies[node] = _placeholder(graph, f"frozen_{i}", value, node.meta["val"])
    for node in owner.graph.nodes:
        if node not in copies and node not in known:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    return GraphModule(owner, graph), list(values.values())


def _packed(node: Node, known: Mapping[Node, torch.Tensor]) -> torch.Tensor:
    """Return a node's tensor in the memory order that its use wants: a convolution's weight, output channels innermost.

    XLA computes convolutions in that order on the CPU and on TPUs, and else reorders the weight at every call.
    """
    tensor = known[node]
    if not any(user.target is aten.convolution.default and user.args[1] is node for user in node.users):
        return tensor
    order = [*range(2, tensor.ndim), 1, 0]
    return tensor.permute(order).contiguous().permute([order.index(d) for d in range(tensor.ndim)])
