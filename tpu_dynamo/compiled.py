"""A compiled graph: one executable for each set of sizes that it meets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tpu_dynamo_lowering import Literal, Result, SizeSource
from tpu_dynamo_runtime import Executable

Sizes = tuple[int | float, ...]


@dataclass(frozen=True)
class Specialisation:
    """The graph at one set of sizes: its executable, and how the graph's outputs are put together."""

    executable: Executable
    outputs: tuple[Result | Literal, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_all_computed", all(isinstance(o, Result) for o in self.outputs))

    _all_computed = False

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """The graph's outputs: tensors, sizes and None, as AOTAutograd expects them."""
        results = self.executable(inputs)
        if self._all_computed:
            return results
        given = iter(results)
        return [next(given) if isinstance(output, Result) else output.value for output in self.outputs]


class CompiledGraph:
    """What AOTAutograd calls instead of a graph.

    A graph with symbolic sizes is compiled for the sizes at hand: at first for those that it was traced with,
    later for each new set when it comes, from the same FX graph, so that Dynamo does not trace again.
    """

    # AOTAutograd hands over its list of inputs, for us to empty: tensors are freed as early as possible.
    _boxed_call = True

    def __init__(self, sources: tuple[SizeSource, ...], specialise: Callable[[Sizes], Specialisation]):
        self._sources = sources
        self._specialise = specialise
        self._lock = threading.Lock()
        self._by_sizes: dict[Sizes, Specialisation] = {}
        self._only: Specialisation | None = None

    def prepare(self, sizes: Sizes) -> Specialisation:
        """The specialisation for one set of sizes, compiled now if it is new; one thread compiles at a time."""
        with self._lock:
            found = self._by_sizes.get(sizes)
            if found is None:
                found = self._by_sizes[sizes] = self._specialise(sizes)
                if not self._sources:
                    self._only = found
                    del self._specialise  # it holds the FX graph, which no further sizes will need
        return found

    def __call__(self, inputs: list[Any]) -> list[Any]:
        """Run on the graph's inputs; empties the list."""
        chosen = self._only
        if chosen is None:
            sizes = tuple(source.read(inputs) for source in self._sources)
            chosen = self._by_sizes.get(sizes) or self.prepare(sizes)
        outputs = chosen(inputs)
        inputs.clear()
        return outputs


class EagerGraph:
    """A graph that runs in eager PyTorch because its author chose that over an error."""

    _boxed_call = True

    def __init__(self, graph_module: torch.fx.GraphModule):
        self._graph_module = graph_module

    def __call__(self, inputs: list[Any]) -> list[Any]:
        """Run on the graph's inputs; empties the list."""
        outputs = self._graph_module(*inputs)
        inputs.clear()
        return list(outputs)
