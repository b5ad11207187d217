"""A compiled graph: one executable for each set of sizes that it meets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import torch

from tpu_dynamo_lowering import Computed, Given, Literal, Number, Program, SizeSource, Sparse, UnsupportedInput, View
from tpu_dynamo_runtime import Executable, items_at

from ..device.device_executable import DeviceExecutable
from .torch_entry import GraphRecord

Sizes = tuple[int | float, ...]

# Takes a graph's inputs and gives its outputs: tensors, sizes and None, as AOTAutograd expects them.
Run = Callable[[list[Any]], list[Any]]


def run_of(executable: Executable | DeviceExecutable, program: Program, draw: Callable[[int], torch.Tensor]) -> Run:
    """What to call for a graph at one set of sizes: the executable itself where nothing is left to do around it."""
    plain = program.outputs == tuple(Computed(i) for i in range(len(program.results)))
    return (
        executable
        if plain and not (program.random_keys or program.storage_offsets)
        else _Assembled(executable, program, draw)
    )


class _Assembled:
    """A graph at one set of sizes: its executable, and how the graph's outputs are put together.

    draw: draws so many random keys, an int64 vector; numbers follow torch.manual_seed and differ from call to call.
    """

    def __init__(
        self, executable: Executable | DeviceExecutable, program: Program, draw: Callable[[int], torch.Tensor]
    ):
        self._executable = executable
        self._random_keys = program.random_keys
        self._storage_offsets = program.storage_offsets
        self._draw = draw
        # Outputs are chosen among the literals, the results and the inputs, of which there are hundreds in training.
        self._literals = [output.value for output in program.outputs if isinstance(output, Literal)]
        self._views = [(i, output) for i, output in enumerate(program.outputs) if isinstance(output, View)]
        self._numbers = [i for i, output in enumerate(program.outputs) if isinstance(output, Number)]
        self._sparse = [(i, output) for i, output in enumerate(program.outputs) if isinstance(output, Sparse)]
        literals, results = count(), len(self._literals)
        inputs = results + len(program.results)
        self._choose = items_at(
            [
                next(literals) if isinstance(output, Literal)
                else inputs + output.position if isinstance(output, Given)
                else results if isinstance(output, Sparse)
                else results + output.result
                for output in program.outputs
            ]
        )  # fmt: skip

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """The graph's outputs: tensors, sizes and None, as AOTAutograd expects them.

        Raises UnsupportedInput for an input that begins elsewhere in its storage than the program takes it to.
        """
        for position, offset in self._storage_offsets:
            if (begins := inputs[position].storage_offset()) != offset:
                raise UnsupportedInput(
                    f"input {position} of the graph",
                    f"begins at element {begins} of its storage, and the graph was compiled for one that begins at "
                    f"{offset}: an offset of as_strided counts from there",
                    "leave storage_offset out of as_strided, or pass a copy, x.clone()",
                )
        if self._random_keys:
            inputs = [*inputs, self._draw(self._random_keys)]
        results = self._executable(inputs)
        outputs = list(self._choose([*self._literals, *results, *inputs]))
        for i, view in self._views:
            outputs[i] = outputs[i].as_strided(view.shape, view.stride, view.offset)
        for i in self._numbers:
            outputs[i] = outputs[i].item()
        for i, sparse in self._sparse:
            outputs[i] = _assembled(results, sparse)
        return outputs


def _assembled(results: Sequence[Any], sparse: Sparse) -> torch.Tensor:
    total: torch.Tensor | None = None
    for indices, values in ((results[i], results[v]) for i, v in sparse.terms):
        if sparse.gaps:
            entries = (indices >= 0).all(0)
            indices, values = indices[:, entries], values[entries]
        term = torch.sparse_coo_tensor(indices, values, sparse.shape, check_invariants=False)
        total = term if total is None else total + term
    assert total is not None
    return total


class EagerGraph:
    """A graph that runs in eager PyTorch because its author chose that over an error."""

    def __init__(self, graph_module: torch.fx.GraphModule):
        self._boxed_call = True
        self._graph_module = graph_module

    def __call__(self, inputs: list[Any]) -> list[Any]:
        """Run on the graph's inputs; empties the list."""
        outputs = self._graph_module(*inputs)
        inputs.clear()
        return list(outputs)


class CompiledGraph:
    """What AOTAutograd calls instead of a graph.

    A graph with symbolic sizes is compiled for the sizes at hand: at first for those that it was traced with,
    later for each new set when it comes, from the same FX graph, so that Dynamo does not trace again.
    """

    def __init__(self, sources: tuple[SizeSource, ...], specialise: Callable[[Sizes], Run]):
        # AOTAutograd hands over its list of inputs, for us to empty: tensors are freed as early as possible. An
        # attribute of the instance, which survives Dynamo's wrapping of callables.
        self._boxed_call = True
        self._sources = sources
        self._specialise = specialise
        self._lock = threading.Lock()
        self._by_sizes: dict[Sizes, Run] = {}
        self._only: Run | None = None
        self.record: GraphRecord | None = None  # how another process finds it, if one can

    @classmethod
    def of(cls, run: Run) -> CompiledGraph:
        """A graph without symbolic sizes that is compiled already."""
        graph = cls((), lambda sizes: run)
        graph.prepare(())
        return graph

    @property
    def has_sizes(self) -> bool:
        """Whether it is compiled for each set of sizes."""
        return bool(self._sources)

    def prepare(self, sizes: Sizes) -> Run:
        """What to call for one set of sizes, compiled now if it is new; one thread compiles at a time."""
        with self._lock:
            found = self._by_sizes.get(sizes)
            if found is None:
                found = self._by_sizes[sizes] = self._specialise(sizes)
                if not self._sources:
                    self._only = found
                    del self._specialise  # it holds the FX graph, which no further sizes will need
        return found

    @property
    def direct(self) -> Run | None:
        """The one program that every call runs, in whatever modes PyTorch is; None if there may be others."""
        return None if isinstance(self._only, EagerGraph) else self._only

    def __call__(self, inputs: list[Any]) -> list[Any]:
        """Run on the graph's inputs; empties the list."""
        chosen = self._only
        if chosen is None:
            sizes = tuple(source.read(inputs) for source in self._sources)
            chosen = self._by_sizes.get(sizes) or self.prepare(sizes)
        outputs = chosen(inputs)
        inputs.clear()
        return outputs
