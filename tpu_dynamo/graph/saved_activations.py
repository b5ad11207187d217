"""Activations that a forward graph of CPU tensors saves for its backward: they stay on the device, as its tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from tpu_dynamo_lowering import Computed, Output, Program, Sparse, TensorSpec, View
from tpu_dynamo_runtime import Buffer

from ..device import NAME as DEVICE
from ..device.cells import cell_of, wrap


def kept_results(program: Program, returned: int) -> dict[int, Callable[[Buffer], torch.Tensor]]:
    """Return the results that only the backward graph reads, each with the function that makes a device tensor of it.

    returned: how many of the graph's outputs the caller gets.
    """
    needed = results_of(program.outputs[:returned])
    needed |= {output.result for output in program.outputs if isinstance(output, View)}
    needed |= {update.result for update in program.updates}
    saved = [output.result for output in program.outputs[returned:] if isinstance(output, Computed)]
    return {i: partial(_tensor, program.results[i]) for i in saved if i not in needed}


def results_of(outputs: Sequence[Output]) -> set[int]:
    """Return the positions of the program's results that these outputs of the graph are, view or consist of."""
    whole = {output.result for output in outputs if isinstance(output, Computed | View)}
    return whole.union(*(term for output in outputs if isinstance(output, Sparse) for term in output.terms))


def _tensor(spec: TensorSpec, buffer: Buffer) -> torch.Tensor:
    return wrap(buffer, spec.shape, spec.dtype, spec.order)


def buffer_of(tensor: torch.Tensor) -> Buffer | None:
    """Return the buffer behind a tensor of the device, None for one of the CPU."""
    if tensor.device.type != DEVICE:
        return None
    cell = cell_of(tensor)
    return None if cell is None else cell.buffer
