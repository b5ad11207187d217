"""A whole training step as one graph: forward, backward, clipping and the optimizer's update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.optim import Optimizer

from tpu_dynamo_lowering import inline, prepare, trace

from .._torch_compat import local_of, sharding_of
from ..device import NAME as DEVICE
from ..graph.prepare import GRADIENT_OF
from .data_parallel import DataParallel, average, broadcast_written
from .joint_graph import Joint
from .numbers import NumberPath
from .optimizers import StateKey, is_elementwise, is_torchs, step_function
from .rematerialise import gather_again, rematerialise
from .shards import norm_of_shards, trace_on_whole_tensors
from .stacked_scalars import stack_scalars

copy = torch.ops.aten.copy_.default


@dataclass(frozen=True)
class Trained:
    """The parameters that have gradients, by their positions among the captured graph's inputs, and their optimizer.

    state_keys: those of their state, where parameters are numbered in the order of `parameters`. numbers: those of the
    optimizer's groups that are operands. max_grad_norm: the norm that the gradients are clipped to. again: positions of
    the parameters that the backward gathers again instead of keeping them. data_parallel: what ranks share.
    """

    optimizer: Optimizer
    parameters: dict[int, torch.nn.Parameter]
    state_keys: list[StateKey]
    numbers: list[NumberPath]
    max_grad_norm: float | None = None
    again: frozenset[int] = frozenset()
    data_parallel: DataParallel | None = None

    def state(self, state_key: StateKey) -> torch.Tensor:
        """Return the tensor of the state under a key."""
        return self.optimizer.state[list(self.parameters.values())[state_key.parameter]][state_key.name]

    def shardings(self) -> list[Any]:
        """Return, for each parameter, its mesh and placements; None for one that is no DTensor."""
        return [sharding_of(parameter) for parameter in self.parameters.values()]


def whole_step(joint: Joint, trained: Trained, inputs: Sequence[Any]) -> tuple[GraphModule, dict[StateKey, Any]]:
    """Return the step's graph, ready for lowering, and the keys that it adds to the state, with their shardings.

    inputs: the captured graph's, of which, as of the state, the step takes what this process has. It takes these, then
    the state, then the numbers; it writes to inputs and state with `copy_`, and returns the captured graph's outputs
    and then the new state.
    """
    owner = GraphModule(joint.graph_module, Graph())
    graph, places = owner.graph, joint.places
    fakes = [node.meta.get("val") for node in joint.graph_module.graph.find_nodes(op="placeholder")]
    known = {position: fake for position, fake in zip(places.inputs, fakes, strict=True) if position is not None}
    like = next(fake for fake in fakes if isinstance(fake, torch.Tensor))
    given = [_placeholder(graph, f"input_{i}", known.get(i)) for i in range(len(inputs))]
    state = [
        _placeholder(graph, f"state_{i}", _like(like, local_of(trained.state(s))))
        for i, s in enumerate(trained.state_keys)
    ]
    numbers = [
        _placeholder(graph, f"number_{i}", like.new_empty((), dtype=torch.float64)) for i in range(len(trained.numbers))
    ]

    def operand(position: int | None, fake: Any) -> Any:
        if position is None:  # the gradient of the loss
            one = graph.call_function(torch.ops.aten.full.default, (list(fake.shape), 1), _kind(fake))
            one.meta["val"] = fake
            return one
        if isinstance(fake, torch.Tensor):
            return given[position]
        return inputs[position] if isinstance(inputs[position], Number) else _constant(owner, inputs[position])

    operands = [operand(*each) for each in zip(places.inputs, fakes, strict=True)]
    values = inline(graph, joint.graph_module, operands)
    gather_again([given[position] for position in trained.parameters if position in trained.again])
    rematerialise(graph)
    gradients = [values[places.gradients[position]] for position in trained.parameters]
    if trained.data_parallel is not None:
        broadcast_written(graph, given, trained.data_parallel)
        gradients = average(graph, gradients, trained.data_parallel)
    if trained.max_grad_norm is not None:
        gradients = _call(graph, _clipping(trained.max_grad_norm, trained.shardings()), gradients)
    for position, gradient in zip(trained.parameters, gradients, strict=True):
        gradient.meta[GRADIENT_OF] = (*gradient.meta.get(GRADIENT_OF, ()), position)
    parameters = [given[position] for position in trained.parameters]
    new, fresh, shardings = _update(graph, trained, parameters, gradients, state, numbers)
    for target in (*parameters, *state):
        graph.call_function(copy, (target, new[target])).meta["val"] = target.meta["val"]
    graph.output((*(values[i] for i in places.outputs), *fresh.values()))
    stack_scalars(graph)
    return prepare(GraphModule(owner, graph)), shardings


def _update(
    graph: Graph,
    trained: Trained,
    parameters: Sequence[Node],
    gradients: Sequence[Node],
    state: Sequence[Node],
    numbers: Sequence[Node],
) -> tuple[dict[Node, Node], dict[StateKey, Node], dict[StateKey, Any]]:
    """Add the optimizer's update to the graph; return new values of parameters and state, new state and its shardings.

    The update of DTensors is that of the whole tensors; of what this process has where each element is by itself.
    """
    own, shardings = list(trained.parameters.values()), trained.shardings()
    # PyTorch's optimizers treat each parameter alone, so that equal ones share a trace; others may not.
    alone = is_torchs(trained.optimizer)
    shares = [[i] for i in range(len(own))] if alone else [list(range(len(own)))]
    group_of = {p: number for number, group in enumerate(trained.optimizer.param_groups) for p in group["params"]}
    bodies: dict[Any, tuple[GraphModule, list[int], list[Any], list[StateKey]]] = {}
    new: dict[Node, Node] = {}
    fresh: dict[StateKey, Node] = {}
    fresh_shardings: dict[StateKey, Any] = {}
    for share in shares:
        state_keys = [
            (number, state_key) for number, state_key in enumerate(trained.state_keys) if state_key.parameter in share
        ]
        inside = [StateKey(share.index(state_key.parameter), state_key.name) for _, state_key in state_keys]
        operands = (
            [parameters[i] for i in share],
            [gradients[i] for i in share],
            [state[n] for n, _ in state_keys],
            numbers,
        )
        nodes = [node for group in operands for node in group]
        groups = [group_of[own[i]] for i in share]
        held = [sharding_of(trained.state(state_key)) for _, state_key in state_keys]
        given = [*(shardings[i] for i in share), *(shardings[i] for i in share), *held, *(None for _ in numbers)]
        key = tuple(groups), tuple(inside), tuple(_spec(node) for node in nodes), tuple(given)
        if key not in bodies:
            function, written = step_function(trained.optimizer, [own[i] for i in share], inside, trained.numbers)
            if any(given) and not is_elementwise(trained.optimizer):
                fakes = [node.meta["val"] for node in nodes]
                bodies[key] = *trace_on_whole_tensors(function, fakes, given, trained.optimizer), written
            else:
                body = _trace(function, nodes)
                bodies[key] = body, list(range(len(share) + len(written))), [], written
        body, places, made, written = bodies[key]
        values = inline(graph, body, nodes)
        results = [values[place] for place in places]
        new |= zip(operands[0], results, strict=False)
        kept = {state_key: state[number] for (number, _), state_key in zip(state_keys, inside, strict=True)}
        for number, (state_key, result) in enumerate(zip(written, results[len(share) :], strict=True)):
            if state_key in kept:
                new[kept[state_key]] = result
                continue
            added = StateKey(share[state_key.parameter], state_key.name)
            fresh[added] = result
            if made:
                fresh_shardings[added] = made[len(share) + number]
            else:  # a tensor like the parameter, or a number
                like_it = _spec(result)[0] == _spec(operands[0][state_key.parameter])[0]
                fresh_shardings[added] = shardings[added.parameter] if like_it else None
    return new, fresh, fresh_shardings


def _clipping(max_norm: float, shardings: Sequence[Any]) -> Callable[..., list[torch.Tensor]]:
    def clip(*gradients: torch.Tensor) -> list[torch.Tensor]:
        # As torch.nn.utils.clip_grad_norm_ does.
        norm = norm_of_shards(gradients, shardings)
        factor = torch.clamp(max_norm / (norm + 1e-6), max=1.0)
        return [gradient * factor for gradient in gradients]

    return clip


def _call(graph: Graph, function: Callable[..., Any], operands: Sequence[Node]) -> list[Node]:
    return inline(graph, _trace(function, operands), operands)


def _trace(function: Callable[..., Any], operands: Sequence[Node]) -> GraphModule:
    return trace(function, [_spec(node) for node in operands], DEVICE)


def _spec(node: Node) -> tuple[tuple[int, ...], tuple[int, ...], torch.dtype]:
    fake = node.meta["val"]
    return tuple(fake.shape), tuple(fake.stride()), fake.dtype


def _constant(owner: GraphModule, value: Any) -> Node:
    """Return a node of an object that is no tensor, as a DeviceMesh."""
    name = f"_object_{len(owner.graph.nodes)}"
    setattr(owner, name, value)
    node = owner.graph.create_node("get_attr", name)  # `get_attr` warns of what is no tensor
    node.meta["val"] = value
    return node


def _placeholder(graph: Graph, name: str, fake: torch.Tensor | None) -> Node:
    node = graph.placeholder(name)
    node.meta["val"] = fake
    return node


def _like(fake: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    return fake.new_empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)


def _kind(fake: torch.Tensor) -> dict[str, Any]:
    return {"dtype": fake.dtype, "device": fake.device}
