"""tpu_dynamo.check: are a model's results, gradients and updates those of eager operators, and if not, since where."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch.fx import GraphModule

from tpu_dynamo_runtime import html_table

from ._torch_compat import BackendCompilerFailed, compiled_apart, modules_of
from .ahead_of_time.capture import default_loss
from .backend import compile_captured
from .device.generator import generator
from .graph.prepare import BoxedCallable, Make, PreparedGraph
from .numerics.check_call import check_call
from .numerics.findings import CheckedGraph
from .numerics.recording import RecordedCall, RecordingGraph
from .numerics.rows import GRAPH_COLUMNS, graph_rows, in_words
from .options import Options
from .training.step import TrainStep, watched_step

Against = Literal["eager", "float64"]


@dataclass(frozen=True)
class Check:
    """The graphs of one call of a model, each compared with eager operators; true if it is `right` and `complete`.

    against: what results were compared with.
    """

    against: Against
    graphs: tuple[CheckedGraph, ...]

    @property
    def right(self) -> bool:
        """True if no graph has an operator at fault."""
        return all(graph.right for graph in self.graphs)

    @property
    def complete(self) -> bool:
        """True if there are graphs, and each was compared."""
        return bool(self.graphs) and not any(graph.unchecked for graph in self.graphs)

    @property
    def faults(self) -> tuple[CheckedGraph, ...]:
        """The graphs that have an operator at fault, in the order of their calls."""
        return tuple(graph for graph in self.graphs if not graph.right)

    def __bool__(self) -> bool:
        return self.right and self.complete

    def __str__(self) -> str:
        return in_words(self.graphs)

    def _repr_html_(self) -> str:
        """Return the graphs, and what is at fault, for a notebook."""
        return html_table(GRAPH_COLUMNS, graph_rows(self.graphs), "" if self.right else str(self.faults[0].fault))

    def as_dict(self) -> dict[str, Any]:
        """Return all findings as plain data, ready for JSON."""
        return {
            "right": self.right,
            "complete": self.complete,
            "against": self.against,
            "graphs": [graph.as_dict() for graph in self.graphs],
        }

    def to_json(self) -> str:
        """Return all findings as JSON."""
        return json.dumps(self.as_dict(), indent=2)

    def write_repro(self, path: str | Path) -> Path:
        """Write the first fault's operators, and what they read, as a script that runs alone; return its path.

        path: of the script, `.py`; a `.safetensors` file of the same name is written beside it. Raises ValueError where
        nothing is at fault, or nothing that operators do, and OSError.
        """
        for graph in self.faults:
            if graph.write_repro is not None:
                return graph.write_repro(Path(path).with_suffix(".py"))
        raise ValueError("no operator is at fault, so there is nothing to write")


def check(
    model: Callable[..., Any],
    *args: Any,
    kwargs: Mapping[str, Any] | None = None,
    against: Against = "eager",
    training: bool = False,
    loss: Callable[[Any], torch.Tensor] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Check:
    """Call `model(*args, **kwargs)` once, compiled, and compare every graph with its operators in eager on the CPU.

    Where a result is off by more than its dtype and eager's own error allow, the first operator at fault is found by
    bisecting the graph, without calling the model again. Random values are those that the compiled graphs drew.

    model: a module, a function of tensors, or what `train_step` returned; that takes the step, and compares parameters
    and the optimizer's state. against: `eager`, or `float64`, which measures eager's own error for every result.
    training: also the gradients of `loss` of what the model returns, by default its `loss`, else the sum of its
    tensors. options: as of torch.compile, see tpu_dynamo.Options. Buffers, gradients and generators are afterwards as
    they were. Raises ValueError for another `against`, and what compiling raises.
    """
    if against not in ("eager", "float64"):
        raise ValueError(f"against={against!r}: results are compared with 'eager' or with 'float64'")
    calls: list[RecordedCall] = []

    def watch(graph: PreparedGraph, make: Make, example_inputs: Sequence[Any]) -> BoxedCallable:
        return RecordingGraph(graph, make, example_inputs, calls.append)

    if isinstance(model, TrainStep):
        chosen = model.options
        model.compiled_by(partial(watched_step, chosen, watch))(*args)
    else:
        chosen = Options.parse(options)

        def backend(graph_module: GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
            return compile_captured(graph_module, example_inputs, chosen, watch=watch)

        _call(model, args, kwargs or {}, backend, (loss or default_loss) if training else None)
    return Check(against, tuple(check_call(call, chosen, against == "float64") for call in calls))


def _call(
    model: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    backend: Callable[..., Any],
    loss: Callable[[Any], torch.Tensor] | None,
) -> None:
    try:
        with (
            _left_as_it_is(model),
            compiled_apart(model, backend) as compiled,
            torch.set_grad_enabled(loss is not None),
        ):
            output = compiled(*args, **kwargs)
            if loss is not None:
                loss(output).backward()
    except BackendCompilerFailed as failure:
        raise failure.inner_exception from failure


@contextlib.contextmanager
def _left_as_it_is(model: Any) -> Iterator[None]:
    """Give a model's buffers their values back at the end, its parameters their gradients, and torch its generators."""
    modules = modules_of(model)
    parameters = {p for module in modules for p in module.parameters(recurse=False)}
    buffers = [buffer for module in modules for buffer in module.buffers(recurse=False)]
    kept = [(buffer, buffer.detach().clone()) for buffer in buffers]
    gradients = [(parameter, parameter.grad) for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    drawn = generator().get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        generator().set_state(drawn)
        with torch.no_grad():
            for buffer, value in kept:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
        for parameter, gradient in gradients:
            parameter.grad = gradient
