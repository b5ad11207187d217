"""tpu_dynamo.train_step: one executable for forward, backward and the optimizer's update."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.fx import GraphModule
from torch.optim import Optimizer

from .._torch_compat import pytree
from ..device import NAME as DEVICE
from ..graph.clients import client_of
from ..graph.prepare import BoxedCallable, PreparedGraph, Watch
from ..graph.specialise import specialise
from ..numerics.sometimes import checking_sometimes
from ..options import OptionError, Options
from . import optimizers
from .data_parallel import without_data_parallel
from .gathering import Stepping, gather_in_steps, gathered_again, hold_shards
from .step_graph import CompileStep, StepGraph


class TrainStep:
    """One step of training as a function of a batch; see `train_step`."""

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: Optimizer,
        loss_fn: Callable[..., Any] | None,
        max_grad_norm: float | None,
        options: Mapping[str, Any] | None,
        compile_step: CompileStep | None = None,
    ):
        """compile_step: compiles the step's graph; by default for the client of the device's tensors."""
        optimizers.check(optimizer)
        _check_device(optimizer)
        self.optimizer = optimizer
        self.options = chosen = options_of(options)
        self._again = partial(TrainStep, model, optimizer, loss_fn, max_grad_norm, options)
        model, data_parallel = without_data_parallel(model)
        self._fully_sharded = gather_in_steps(model)
        modules = self._fully_sharded
        if compile_step is None:
            client_of(chosen, on_device=True)  # an error about the target belongs here, not into the first step
            compile_step = _compile_with(chosen)

        # Under the name of a registered backend: Dynamo then lets go of the tensors that it saw, which PyTorch would
        # otherwise not move to another device.
        def tpu_dynamo(graph_module: GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
            graph = StepGraph(
                graph_module,
                optimizer,
                max_grad_norm,
                compile_step,
                lambda: gathered_again(modules),
                data_parallel,
                {id(parameter): name for name, parameter in model.named_parameters()},
            )
            return torch.compiler.disable(graph, reason="a whole training step, compiled already")

        self._run = torch.compile(_loss_of(model, loss_fn), backend=tpu_dynamo, fullgraph=True)

    def __call__(self, inputs: Any, *targets: Any) -> Any:
        """Train on one batch; return the loss function's result, detached, on the device.

        inputs: the model's: one argument, a tuple or list of arguments, or a dict of keyword arguments.
        targets: the loss function's arguments after the model's output.
        """
        if not self._fully_sharded:
            with torch.enable_grad():
                return self._run(inputs, *targets)
        hold_shards(self._fully_sharded)
        Stepping.now = True
        try:
            with torch.enable_grad():
                return self._run(inputs, *targets)
        finally:
            Stepping.now = False

    def compiled_by(self, compile_step: CompileStep) -> TrainStep:
        """Return a step of the same model and optimizer, whose graph `compile_step` compiles."""
        return self._again(compile_step)


def _compile_with(options: Options) -> CompileStep:
    watch = checking_sometimes(options)
    return partial(compiled_step, options) if watch is None else partial(watched_step, options, watch)


def compiled_step(options: Options, step: PreparedGraph) -> BoxedCallable:
    """Compile a step's graph. Raises what `specialise` raises."""
    return specialise(step, {}, options)[0]


def watched_step(options: Options, watch: Watch, step: PreparedGraph) -> BoxedCallable:
    """Compile a step's graph, and let `watch` watch its calls."""
    return watch(step, lambda graph, inputs: compiled_step(options, graph), ())


def train_step(
    model: torch.nn.Module,
    optimizer: Optimizer,
    loss_fn: Callable[..., Any] | None = None,
    *,
    max_grad_norm: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> TrainStep:
    """Return a function that trains `model` on one batch, in one executable: `loss = step(inputs, *targets)`.

    It computes loss_fn(model(inputs), *targets), its gradients, their clipping to `max_grad_norm` if given, and the
    optimizer's update, whose rule is traced from PyTorch's own code. Parameters and the optimizer's state are donated:
    their buffers are overwritten and never copied. `.grad` is neither read nor written. Learning rates are operands,
    so schedulers cause no recompilation; eager steps, `state_dict` and `load_state_dict` may come in between.

    model: on torch.device("tpu"). loss_fn: returns the loss, or a tuple that begins with it; without one the model's
    output is the loss, or has it as `.loss`. options: as for torch.compile(backend="tpu"). Raises
    UnsupportedOptimizer, and OptionError for an option that a step does not support; for a graph break in the loss
    Dynamo raises its own error, since a step is one executable.
    """
    return TrainStep(model, optimizer, loss_fn, max_grad_norm, options)


# Options of torch.compile that a step does not support, and why.
UNSUPPORTED_OPTIONS = {
    "fallback": "a step is one executable, so an operator that has no lowering is an error",
    "partitioner": "forward and backward are one program, and nothing is cut",
    "activation_memory_budget": "forward and backward are one program; use torch.utils.checkpoint in the model",
    "transfer": "the tensors are on the device",
    "freeze": "parameters change",
    "buckets": "a step is compiled for each size of its batch: pad batches, or drop the last one",
    "compile_ahead": "a step has no buckets",
}


def options_of(given: Mapping[str, Any] | None) -> Options:
    """Return the options of a step. Raises OptionError, also for one in UNSUPPORTED_OPTIONS."""
    chosen, default = Options.parse(given), Options()
    for name, why in UNSUPPORTED_OPTIONS.items():
        if getattr(chosen, name) != getattr(default, name):
            raise OptionError(f"option {name}={getattr(chosen, name)!r} has no meaning for train_step: {why}")
    return chosen


def _check_device(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.device.type != DEVICE:
                raise ValueError(
                    f"train_step wants the model on the device, and a parameter of shape {tuple(parameter.shape)} is "
                    f'on {parameter.device}\n  try: model.to("{DEVICE}") before'
                )


def _loss_of(model: torch.nn.Module, loss_fn: Callable[..., Any] | None) -> Callable[..., Any]:
    def loss(inputs: Any, *targets: Any) -> Any:
        if isinstance(inputs, dict):
            output = model(**inputs)
        elif isinstance(inputs, tuple | list):
            output = model(*inputs)
        else:
            output = model(inputs)
        if loss_fn is not None:
            output = loss_fn(output, *targets)
        elif hasattr(output, "loss"):
            output = output.loss
        if isinstance(output, tuple):
            return output[0], *pytree.tree_map_only(torch.Tensor, torch.detach, output[1:])
        return output

    # Dynamo keeps and counts its compilations by code object: each step has one of its own.
    code = loss.__code__.replace()
    return types.FunctionType(code, loss.__globals__, loss.__name__, None, loss.__closure__)
