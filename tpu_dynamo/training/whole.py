"""A whole training step as one graph: forward, backward, clipping and the optimizer's update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.optim import Optimizer

from tpu_dynamo_lowering import inline, prepare, trace

from ..device import NAME as DEVICE
from .joint_graph import Joint
from .numbers import NumberPath
from .optimizers import StateKey, is_torchs, step_function
from .rematerialise import rematerialise

copy = torch.ops.aten.copy_.default


@dataclass(frozen=True)
class Trained:
    """The parameters that have gradients, by their positions among the captured graph's inputs, and their optimizer.

    state_keys: those of their state, where parameters are numbered in the order of `parameters`. numbers: those of the
    optimizer's groups that are operands. max_grad_norm: the norm that the gradients are clipped to.
    """

    optimizer: Optimizer
    parameters: dict[int, torch.nn.Parameter]
    state_keys: list[StateKey]
    numbers: list[NumberPath]
    max_grad_norm: float | None = None

    def state(self, state_key: StateKey) -> torch.Tensor:
        """Return the tensor of the state under a key."""
        return self.optimizer.state[list(self.parameters.values())[state_key.parameter]][state_key.name]


def whole_step(joint: Joint, trained: Trained, inputs: Sequence[Any]) -> tuple[GraphModule, list[StateKey]]:
    """Return the step's graph, ready for lowering, and the keys that it adds to the state.

    inputs: the captured graph's. The step takes these, then the state, then the numbers; it writes to inputs and state
    with `copy_`, and returns the captured graph's outputs and then the new state.
    """
    owner = GraphModule(joint.graph_module, Graph())
    graph, places = owner.graph, joint.places
    fakes = [node.meta.get("val") for node in joint.graph_module.graph.find_nodes(op="placeholder")]
    known = {position: fake for position, fake in zip(places.inputs, fakes, strict=True) if position is not None}
    like = next(fake for fake in fakes if isinstance(fake, torch.Tensor))
    given = [_placeholder(graph, f"input_{i}", known.get(i)) for i in range(len(inputs))]
    state = [_placeholder(graph, f"state_{i}", _like(like, trained.state(s))) for i, s in enumerate(trained.state_keys)]
    numbers = [
        _placeholder(graph, f"number_{i}", like.new_empty((), dtype=torch.float64)) for i in range(len(trained.numbers))
    ]

    def operand(position: int | None, fake: Any) -> Any:
        if position is None:  # the gradient of the loss
            one = graph.call_function(torch.ops.aten.full.default, (list(fake.shape), 1), _kind(fake))
            one.meta["val"] = fake
            return one
        return given[position] if isinstance(fake, torch.Tensor) else inputs[position]

    operands = [operand(*each) for each in zip(places.inputs, fakes, strict=True)]
    values = inline(graph, joint.graph_module, operands)
    rematerialise(graph)
    gradients = [values[places.gradients[position]] for position in trained.parameters]
    if trained.max_grad_norm is not None:
        gradients = _call(graph, _clipping(trained.max_grad_norm), gradients)
    parameters = [given[position] for position in trained.parameters]
    new, fresh = _update(graph, trained, parameters, gradients, state, numbers)
    for target in (*parameters, *state):
        graph.call_function(copy, (target, new[target])).meta["val"] = target.meta["val"]
    graph.output((*(values[i] for i in places.outputs), *fresh.values()))
    return prepare(GraphModule(owner, graph)), list(fresh)


def _update(
    graph: Graph,
    trained: Trained,
    parameters: Sequence[Node],
    gradients: Sequence[Node],
    state: Sequence[Node],
    numbers: Sequence[Node],
) -> tuple[dict[Node, Node], dict[StateKey, Node]]:
    """Add the optimizer's update to the graph; return the new values of parameters and state, and new state by key."""
    own = list(trained.parameters.values())
    # PyTorch's optimizers treat each parameter alone, so that equal ones share a trace; others may not.
    alone = is_torchs(trained.optimizer)
    shares = [[i] for i in range(len(own))] if alone else [list(range(len(own)))]
    group_of = {p: number for number, group in enumerate(trained.optimizer.param_groups) for p in group["params"]}
    bodies: dict[Any, tuple[GraphModule, list[StateKey]]] = {}
    new: dict[Node, Node] = {}
    fresh: dict[StateKey, Node] = {}
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
        key = tuple(groups), tuple(inside), tuple(_spec(node) for node in nodes)
        if key not in bodies:
            function, written = step_function(trained.optimizer, [own[i] for i in share], inside, trained.numbers)
            bodies[key] = _trace(function, nodes), written
        body, written = bodies[key]
        results = inline(graph, body, nodes)
        new |= zip(operands[0], results, strict=False)
        places = {state_key: state[number] for (number, _), state_key in zip(state_keys, inside, strict=True)}
        for state_key, result in zip(written, results[len(share) :], strict=True):
            if state_key in places:
                new[places[state_key]] = result
            else:
                fresh[StateKey(share[state_key.parameter], state_key.name)] = result
    return new, fresh


def _clipping(max_norm: float) -> Callable[..., list[torch.Tensor]]:
    def clip(*gradients: torch.Tensor) -> list[torch.Tensor]:
        # As torch.nn.utils.clip_grad_norm_ does.
        norm = torch.nn.utils.get_total_norm(gradients, foreach=False)
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


def _placeholder(graph: Graph, name: str, fake: torch.Tensor | None) -> Node:
    node = graph.placeholder(name)
    node.meta["val"] = fake
    return node


def _like(fake: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    return fake.new_empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)


def _kind(fake: torch.Tensor) -> dict[str, Any]:
    return {"dtype": fake.dtype, "device": fake.device}
