"""A graph's outputs, put together from its program's results, its inputs and literals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import torch

from tpu_dynamo_lowering import Computed, Given, Literal, MeshGroup, Number, Program, Sparse, UnsupportedInput, View
from tpu_dynamo_runtime import Executable, items_at

from ..device.device_executable import DeviceExecutable
from ..device.sparse import sparse_tensor
from .prepare import BoxedCallable


def with_graph_outputs(
    executable: Executable | DeviceExecutable, program: Program, draw: Callable[[int], torch.Tensor]
) -> BoxedCallable:
    """Return what gives a graph's outputs: the executable itself where its results are these already.

    draw: draws so many random keys, an int64 vector; they follow torch.manual_seed and differ from call to call.
    """
    are_results = program.outputs == tuple(Computed(i) for i in range(len(program.results)))
    if are_results and not (program.random_keys or program.storage_offsets):
        return executable
    return _WithGraphOutputs(executable, program, draw)


class _WithGraphOutputs:
    """An executable, and how a graph's outputs are chosen and made from its results."""

    def __init__(
        self, executable: Executable | DeviceExecutable, program: Program, draw: Callable[[int], torch.Tensor]
    ):
        self._executable = executable
        self._random_keys = program.random_keys
        self._storage_offsets = program.storage_offsets
        self._draw = draw
        # Outputs are chosen among the literals, the results and the inputs, of which there are hundreds in training.
        self._literals = [output.value for output in program.outputs if isinstance(output, Literal)]
        sharing = Counter(output.result for output in program.outputs if isinstance(output, Computed | View))
        self._views = [(i, o, sharing[o.result] == 1) for i, o in enumerate(program.outputs) if isinstance(o, View)]
        self._numbers = [i for i, output in enumerate(program.outputs) if isinstance(output, Number)]
        self._groups = [(i, output) for i, output in enumerate(program.outputs) if isinstance(output, MeshGroup)]
        self._sparse = [(i, output) for i, output in enumerate(program.outputs) if isinstance(output, Sparse)]
        literals, results = count(), len(self._literals)
        inputs = results + len(program.results)
        self._choose = items_at(
            [
                next(literals) if isinstance(output, Literal)
                else inputs + output.position if isinstance(output, Given)
                else results if isinstance(output, Sparse)  # another takes its place
                else inputs + output.position if isinstance(output, MeshGroup)
                else results + output.result
                for output in program.outputs
            ]
        )  # fmt: skip

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """Run, and return the graph's outputs: tensors, sizes and None, as AOTAutograd expects them.

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
        for i, view, alone in self._views:
            outputs[i] = outputs[i].as_strided(view.shape, view.stride, view.offset)
            if alone:  # as in `Executable._finish`: no view to autograd
                outputs[i] = outputs[i].detach()
        for i, group in self._groups:
            outputs[i] = outputs[i].get_group(group.dimension)
        for i in self._numbers:
            outputs[i] = outputs[i].item()
        for i, sparse in self._sparse:
            outputs[i] = sparse_tensor(results, sparse)
        return outputs
