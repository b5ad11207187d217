"""The callable that Dynamo gets for a captured loss: a whole step, compiled for the batch and the state at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.optim import Optimizer

from tpu_dynamo_lowering import readable

from .._torch_compat import (
    FakeTensorMode,
    ShapeEnv,
    frame_function,
    gradient_has_hooks,
    input_name,
    local_of,
    mark_stepped,
    sharded,
    sharding_of,
    unset_fake_temporarily,
)
from ..artifacts import next_name
from ..cache.signature import Frame
from ..distributed.meshes import span_collectives
from ..graph.prepare import BoxedCallable, PreparedGraph
from ..session import session
from ..statistics import AUTOGRAD
from . import optimizers
from .data_parallel import DataParallel
from .joint_graph import Joint, check_loss, joint
from .numbers import Numbers
from .optimizers import StateKey
from .shards import check_even
from .whole import Trained, whole_step

# Compiles a step's graph into a callable from inputs, state and numbers to outputs and new state.
CompileStep = Callable[[PreparedGraph], BoxedCallable]


@dataclass
class _Bound:
    """A compiled step with the tensors that it works on.

    outputs: how many of its results are the captured graph's. held: its state as (dictionary, name, tensor); while the
    dictionaries hold these tensors the step fits. fresh: keys of the state that the step makes, with their shardings.
    has_shards: whether any operand is a DTensor.
    """

    run: BoxedCallable
    outputs: int
    trained: Trained
    held: list[tuple[dict[str, Any], str, torch.Tensor]]
    settings: tuple[Any, ...]
    fresh: dict[StateKey, Any]
    has_shards: bool

    def fits(self, inputs: Sequence[Any], settings: tuple[Any, ...]) -> bool:
        """Return True if parameters, state and settings are still those that the step was bound to."""
        return (
            settings == self.settings
            and all(inputs[position] is p for position, p in self.trained.parameters.items())
            and all(state.get(name) is tensor for state, name, tensor in self.held)
            and not any(map(gradient_has_hooks, self.trained.parameters.values()))
        )


class StepGraph:
    """A training step for one graph that Dynamo captured.

    It is compiled at its first call, since only then it is known which inputs are parameters; and again for other
    sizes, other settings of the optimizer and other state.
    """

    def __init__(
        self,
        graph_module: GraphModule,
        optimizer: Optimizer,
        max_grad_norm: float | None,
        compile_step: CompileStep,
        again: Callable[[], set[int]] = set,
        data_parallel: DataParallel | None = None,
        names: Mapping[int, str] | None = None,
    ):
        """again: gives the ids of parameters that the backward is to gather again. data_parallel: what ranks share.

        names: those of the model's parameters, by their ids.
        """
        check_loss(graph_module)
        self._compile_step = compile_step
        self._graph_module = graph_module
        self._frame = Frame(function=frame_function())
        self._optimizer = optimizer
        self._max_grad_norm = max_grad_norm
        self._again = again
        self._data_parallel = data_parallel
        self._names = names or {}
        self._numbers = Numbers(optimizer)
        placeholders = graph_module.graph.find_nodes(op="placeholder")
        self._sizes = [i for i, node in enumerate(placeholders) if not _is_tensor(node.meta["example_value"])]
        results: Any = graph_module.graph.output_node().args[0]
        values = [result.meta["example_value"] if isinstance(result, Node) else None for result in results]
        self._output_shardings = {i: sharding for i, v in enumerate(values) if (sharding := sharding_of(v)) is not None}
        self._joints: dict[Any, Joint] = {}
        self._programs: dict[Any, tuple[BoxedCallable, dict[StateKey, Any]]] = {}
        self._bound: dict[tuple[Any, ...], _Bound] = {}  # by sizes, as last used

    def __call__(self, *inputs: Any) -> list[Any]:
        """Train on a call's inputs; return the captured graph's outputs."""
        sizes = tuple(inputs[i] for i in self._sizes)
        settings = self._numbers.settings()
        bound = self._bound.get(sizes)
        if bound is None or not bound.fits(inputs, settings):
            with session().statistics.clock.timed(AUTOGRAD):
                bound = self._bound[sizes] = self._bind(inputs, sizes)
        state = [tensor for _, _, tensor in bound.held]
        given = [*map(local_of, inputs), *map(local_of, state)] if bound.has_shards else [*inputs, *state]
        outputs = bound.run([*given, *self._numbers.tensors(bound.trained.numbers)])
        parameters = list(bound.trained.parameters.values())
        for (state_key, sharding), tensor in zip(bound.fresh.items(), outputs[bound.outputs :], strict=True):
            whole = tensor if sharding is None else sharded(tensor, sharding)
            self._optimizer.state[parameters[state_key.parameter]][state_key.name] = whole
        if bound.fresh:
            del self._bound[sizes]  # the next step has more state to take
        torch.autograd.graph.increment_version(parameters)
        mark_stepped(self._optimizer)
        if not self._output_shardings:
            return outputs[: bound.outputs]
        shardings = self._output_shardings
        return [
            sharded(each, shardings[i]) if i in shardings else each for i, each in enumerate(outputs[: bound.outputs])
        ]

    def _bind(self, inputs: Sequence[Any], sizes: tuple[Any, ...]) -> _Bound:
        optimizers.check(self._optimizer)
        check_even(inputs)
        both = self._joint(inputs, sizes)
        parameters = {position: inputs[position] for position in both.places.gradients}
        own = list(parameters.values())
        optimizers.initialise(self._optimizer, own)
        state_keys = optimizers.state_keys_of(self._optimizer, own)
        wanted = self._again()
        again = frozenset(position for position, parameter in parameters.items() if id(parameter) in wanted)
        trained = Trained(
            self._optimizer, parameters, state_keys, self._numbers.operands(), self._max_grad_norm, again,
            self._data_parallel,
        )  # fmt: skip
        settings = self._numbers.settings()
        held = [(self._optimizer.state[own[s.parameter]], s.name, trained.state(s)) for s in state_keys]
        specs = tuple((tuple(t.shape), t.stride(), t.dtype, sharding_of(t)) for _, _, t in held)
        key = sizes, tuple(parameters), tuple(state_keys), specs, settings, tuple(trained.numbers), again
        if key not in self._programs:
            self._programs[key] = self._compile(both, trained, inputs)
        run, fresh = self._programs[key]
        has_shards = any(sharding_of(each) is not None for each in (*inputs, *(tensor for _, _, tensor in held)))
        return _Bound(run, len(both.places.outputs), trained, held, settings, fresh, has_shards)

    def _joint(self, inputs: Sequence[Any], sizes: tuple[Any, ...]) -> Joint:
        wanted = {id(p) for group in self._optimizer.param_groups for p in group["params"] if p.requires_grad}
        positions = tuple(i for i, tensor in enumerate(inputs) if id(tensor) in wanted)
        if (sizes, positions) not in self._joints:
            # With symbols a rank's place in a mesh is no number in the graph, which is then the same on all ranks.
            has_shards = any(sharding_of(each) is not None for each in inputs)
            mode = FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv() if has_shards else None)
            # The inputs may be fake tensors already, as when steps are compiled ahead of time.
            with unset_fake_temporarily():
                self._joints[sizes, positions] = joint(self._graph_module, inputs, positions, mode)
        return self._joints[sizes, positions]

    def _compile(
        self, both: Joint, trained: Trained, inputs: Sequence[Any]
    ) -> tuple[BoxedCallable, dict[StateKey, Any]]:
        session().statistics.count("graphs", "step")
        with unset_fake_temporarily():
            graph_module, fresh = whole_step(both, trained, inputs)
            span = span_collectives(graph_module)
        forms = {
            "dynamo.fx.py": lambda: readable(self._graph_module),
            "joint.fx.py": lambda: readable(both.graph_module),
            "step.fx.py": lambda: readable(graph_module),
        }
        inputs_named, outputs_named = self._operand_names(trained, len(both.places.outputs), list(fresh))
        step = PreparedGraph(
            next_name("step"),
            "step",
            graph_module,
            graph_module,
            True,
            span=span,
            frame=replace(self._frame, inputs=inputs_named),
            output_names=outputs_named,
            forms=forms,
        )
        return self._compile_step(step), fresh

    def _operand_names(
        self, trained: Trained, outputs: int, fresh: Sequence[StateKey]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of a step's inputs, state and numbers, and those of its outputs and new state."""
        placeholders = self._graph_module.graph.find_nodes(op="placeholder")
        inputs = [
            f"parameter {self._names.get(id(trained.parameters[i]), input_name(node))}"
            if i in trained.parameters
            else input_name(node)
            for i, node in enumerate(placeholders)
        ]
        parameters = list(trained.parameters.items())

        def state(key: StateKey) -> str:
            position, parameter = parameters[key.parameter]
            return f"state {self._names.get(id(parameter), inputs[position])}.{key.name}"

        numbers = [f"number {i}" for i in range(len(trained.numbers))]
        return (
            (*inputs, *map(state, trained.state_keys), *numbers),
            (*(f"output {i}" for i in range(outputs)), *map(state, fresh)),
        )


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)
