"""A frozen graph as what AOTAutograd calls: its parameters are taken at the first call, and must stay as they are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule

from ..device import NAME as DEVICE
from ..errors import FrozenParameterChanged
from .freezing import FrozenModule, freezable, freeze

Run = Callable[[list[Any]], list[Any]]


class FrozenGraph:
    """A graph that is compiled when its parameters are known, at the first call.

    graph_module: as `prepare` gives it. static: positions of parameters and buffers. names: of all inputs. compile:
    takes the frozen module and its inputs, and gives what runs it.
    """

    def __init__(
        self,
        graph_module: GraphModule,
        static: Collection[int],
        names: Sequence[str],
        compile: Callable[[FrozenModule, list[Any]], Run],
    ):
        self._boxed_call = True  # as CompiledGraph
        self._graph_module = graph_module
        self._positions = freezable(graph_module, static)
        self._names = [names[position] for position in self._positions]
        self._compile = compile
        self._lock = threading.Lock()
        self._ready: _Ready | None = None

    def __call__(self, inputs: list[Any]) -> list[Any]:
        """Run on the graph's inputs; empties the list. Raises FrozenParameterChanged."""
        parameters = [inputs[position] for position in self._positions]
        ready = self._ready or self._prepare(inputs, parameters)
        if _places(parameters) != ready.places or _versions(parameters) != ready.versions:
            raise FrozenParameterChanged(self._changed(parameters, ready))
        taken = ready.frozen.inputs(inputs)
        inputs.clear()
        return ready.run(taken)

    def _prepare(self, inputs: list[Any], parameters: list[torch.Tensor]) -> _Ready:
        with self._lock:
            if self._ready is None:
                held = [parameter.detach() for parameter in parameters]
                frozen = freeze(self._graph_module, dict(zip(self._positions, held, strict=True)))
                run = self._compile(frozen, frozen.inputs(inputs))
                self._ready = _Ready(run, frozen, held, _places(held), _versions(held))
                del self._graph_module, self._compile
        return self._ready

    def _changed(self, parameters: list[torch.Tensor], ready: _Ready) -> list[str]:
        now = zip(_places(parameters), _versions(parameters), strict=True)
        then = zip(ready.places, ready.versions, strict=True)
        return [name for name, new, old in zip(self._names, now, then, strict=True) if new != old]


@dataclass(frozen=True)
class _Ready:
    """held: the parameters, so that no other tensor comes to where they are; places, versions: theirs."""

    run: Run
    frozen: FrozenModule
    held: list[torch.Tensor]
    places: list[int]
    versions: list[int]


def _places(tensors: list[torch.Tensor]) -> list[int]:
    """What changes when a tensor gets other memory."""
    return [t.untyped_storage()._cdata if t.device.type == DEVICE else t.data_ptr() for t in tensors]


def _versions(tensors: list[torch.Tensor]) -> list[int]:
    """What changes when somebody writes to a tensor; inference tensors do not tell."""
    return [0 if t.is_inference() else t._version for t in tensors]
