"""A frozen graph as what AOTAutograd calls: its parameters are taken at the first call, and must stay as they are."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import torch

from ..cache.signature import input_names
from ..device import NAME as DEVICE
from ..errors import FrozenParameterChanged
from ..options import Options
from .compiled import compile_for_inputs
from .freezing import FrozenModule
from .prepare import BoxedCallable, PreparedGraph


class FrozenGraph:
    """A graph that is compiled when its parameters are known, at the first call.

    Raises OptionError for a graph in training, whose parameters are about to change.
    """

    def __init__(self, graph: PreparedGraph, options: Options):
        self._boxed_call = True  # as in EagerGraph
        self._graph = graph
        self._options = options
        self._positions = graph.freezable
        names = input_names(graph.module, graph.frame.inputs)
        self._names = [names[position] for position in self._positions]
        self._lock = threading.Lock()
        self._compiled: _Compiled | None = None

    def __call__(self, inputs: list[Any]) -> list[Any]:
        """Run on the graph's inputs; empties the list. Raises FrozenParameterChanged."""
        parameters = [inputs[position] for position in self._positions]
        compiled = self._compiled or self._compile(inputs, parameters)
        if _addresses(parameters) != compiled.addresses or _versions(parameters) != compiled.versions:
            raise FrozenParameterChanged(self._changed(parameters, compiled))
        moving = compiled.frozen.inputs(inputs)
        inputs.clear()
        return compiled.run(moving)

    def _compile(self, inputs: list[Any], parameters: list[torch.Tensor]) -> _Compiled:
        with self._lock:
            if self._compiled is None:
                held = [parameter.detach() for parameter in parameters]
                graph, frozen = self._graph.frozen(dict(zip(self._positions, held, strict=True)))
                run = compile_for_inputs(graph, frozen.inputs(inputs), self._options)
                self._compiled = _Compiled(run, frozen, held, _addresses(held), _versions(held))
                del self._graph
        return self._compiled

    def _changed(self, parameters: list[torch.Tensor], compiled: _Compiled) -> list[str]:
        now = zip(_addresses(parameters), _versions(parameters), strict=True)
        then = zip(compiled.addresses, compiled.versions, strict=True)
        return [name for name, new, old in zip(self._names, now, then, strict=True) if new != old]


@dataclass(frozen=True)
class _Compiled:
    """A compiled graph with its constants.

    held: the parameters, so that no other tensor comes to where they are; addresses, versions: theirs.
    """

    run: BoxedCallable
    frozen: FrozenModule
    held: list[torch.Tensor]
    addresses: list[int]
    versions: list[int]


def _addresses(tensors: list[torch.Tensor]) -> list[int]:
    """Return numbers that change when a tensor gets other memory."""
    return [t.untyped_storage()._cdata if t.device.type == DEVICE else t.data_ptr() for t in tensors]


def _versions(tensors: list[torch.Tensor]) -> list[int]:
    """Return numbers that change when somebody writes to a tensor; always 0 for inference tensors, which keep none."""
    return [0 if t.is_inference() else t._version for t in tensors]
