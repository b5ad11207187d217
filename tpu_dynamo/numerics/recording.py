"""Calls of compiled graphs with what went in and came out, and the callable that records every N-th of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from tpu_dynamo_lowering import drawn_values, with_outputs

from ..graph.prepare import BoxedCallable, Make, PreparedGraph, Sizes, written_inputs


@dataclass(frozen=True)
class RecordedCall:
    """One call of a graph, all tensors on the CPU.

    sizes: the numbers of its symbols. inputs: as they were before the call. outputs: ours. written: ours, by the
    positions of the inputs that the graph writes to. drawn: random values that it drew, by the names of their nodes.
    gradients: ours in the middle of a step, where they were asked for, by the names of their nodes.
    """

    graph: PreparedGraph
    sizes: Sizes
    inputs: list[Any]
    outputs: list[Any]
    written: dict[int, torch.Tensor]
    drawn: dict[str, torch.Tensor]
    gradients: dict[str, torch.Tensor]


class RecordingGraph:
    """A compiled graph of which every N-th call is recorded, and told to a function.

    A call that is recorded runs a program that returns, beside the graph's outputs, the random values that it draws;
    for graphs that draw none it is the one that the other calls run. Where every call is recorded, that of a step
    returns the gradients too.
    """

    def __init__(
        self,
        graph: PreparedGraph,
        make: Make,
        example_inputs: Sequence[Any],
        tell: Callable[[RecordedCall], None],
        every: int = 1,
    ):
        self._boxed_call = True  # as in EagerGraph
        self._graph = graph
        self._make = make
        self._tell = tell
        self._every = every
        self._drawn = drawn_values(graph.module)
        self._gradients = list(dict.fromkeys(name for _, name in graph.gradients)) if every == 1 else []
        self._written = written_inputs(graph.module)
        self._lock = threading.Lock()
        self._calls = 0
        self._observed: BoxedCallable | None = None
        if every == 1:
            self._observed = make(self._observed_graph(), example_inputs)
            self._run = self._observed
        else:
            self._run = make(graph, example_inputs)
            if not self._drawn:
                self._observed = self._run

    def __call__(self, inputs: list[Any]) -> list[Any]:
        """Run on the graph's inputs; empties the list. Raises what the function that is told raises."""
        with self._lock:
            self._calls += 1
            recorded = self._calls % self._every == 0
        if not recorded:
            return self._run(inputs)
        if self._observed is None:
            self._observed = self._make(self._observed_graph(), inputs)
        before = [_copied(value) for value in inputs]
        written = {position: inputs[position] for position in self._written}
        sizes = self._graph.sizes(inputs)
        found = list(self._observed(inputs))
        inputs.clear()
        count = len(found) - len(self._drawn) - len(self._gradients)
        observed = dict(zip([*self._drawn, *self._gradients], map(_copied, found[count:]), strict=True))
        outputs, drawn = found[:count], {name: observed[name] for name in self._drawn}
        gradients = {name: observed[name] for name in self._gradients}
        after = {position: _copied(tensor) for position, tensor in written.items()}
        self._tell(RecordedCall(self._graph, sizes, before, list(map(_copied, outputs)), after, drawn, gradients))
        return outputs

    def _observed_graph(self) -> PreparedGraph:
        observed = [*self._drawn, *self._gradients]
        if not observed:
            return self._graph
        module = with_outputs(self._graph.module, observed)
        return replace(self._graph, module=module, eager=module)


def _copied(value: Any) -> Any:
    """Return a tensor's copy on the CPU, with its strides and what is beside it in its storage."""
    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach()
    if value.device.type != "cpu":
        return value.cpu()
    if value.layout != torch.strided or value.is_contiguous() or value.is_conj() or value.is_neg():
        return value.clone(memory_format=torch.preserve_format) if value.layout == torch.strided else value.clone()
    storage = value.untyped_storage().clone()
    return torch.empty(0, dtype=value.dtype).set_(storage, value.storage_offset(), value.shape, value.stride())
