"""Compiled graphs on device tensors: buffers go in and out, and nothing crosses to the host."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import repeat

import torch

from tpu_dynamo_lowering import Computed, Number, Program, TensorSpec, View
from tpu_dynamo_runtime import Buffer, PooledProgram

from ..session import session
from ._torch_compat import NAME
from .cells import Cell, strides_of, wrap
from .operator_programs import launch, transfer
from .references import reference_count
from .tensor_memory import duplicate, is_lazy, put_host, read, write


def _count_with_one_cell() -> int:
    """Return `reference_count` of a buffer that one cell and the list of operands hold.

    A count of the cells that share a buffer would not do: the operands of an execution that another thread prepares
    hold it too.
    """
    cell = Cell(object(), (), torch.bool)
    return reference_count([cell.buffer], 0)


_COUNT_WITH_ONE_CELL = _count_with_one_cell()


class DeviceExecutable:
    """A program that is called with a graph's inputs on the device and returns its tensor outputs there.

    Inputs on the CPU, where PyTorch allows tensors without dimensions, are uploaded; outputs that the graph has on the
    CPU are fetched. An input that the graph writes to gets a new buffer, which takes over the memory of its old one
    (donation) unless another tensor holds that.
    """

    def __init__(self, entry: PooledProgram, program: Program, described: str = ""):
        """described: the graph that it computes, for people."""
        self._launch = launch(entry, program)
        self._launch.described = described
        self._traffic = session().statistics.traffic
        self._operands = [
            (a.position, a.spec.physical_shape, strides_of(a.spec.physical_shape, a.spec.order), a.spec.order)
            for a in program.arguments[: program.inputs]
        ]
        self._updates = [(u.position, u.result, u.argument, program.results[u.result]) for u in program.updates]
        self._donated = [(argument, spec) for _, _, argument, spec in self._updates if argument is not None]
        for _ in range(len(self._updates) - len(self._donated)):
            session().statistics.count("donations_refused", "the program does not read the input, or in another layout")
        wanted = {output.result for output in program.outputs if isinstance(output, Computed | View | Number)}
        self._results = [(i, program.results[i]) for i in sorted(wanted)]
        self._count = len(program.results)
        self._constants = [transfer().put(tensor) for tensor in program.constants]
        session().note(self)

    @property
    def constant_bytes(self) -> int:
        """Bytes of the graph's own constants."""
        return sum(buffer.nbytes for buffer in self._constants)

    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor | None]:
        """Run; return the results as new tensors, with None in the places of those that only update inputs."""
        operands: list[Buffer] = []
        cells: list[Cell | None] = []  # those whose buffers are operands as they are
        for position, physical, stride, order in self._operands:
            tensor = inputs[position]
            # A lazy view's memory has other values.
            cell = None if is_lazy(tensor) else getattr(tensor.untyped_storage(), "cell", None)
            if cell is not None and cell.shape == physical and cell.dtype == tensor.dtype and tensor.stride() == stride:
                operands.append(cell.buffer)
                cells.append(cell)
            else:
                operands.append(read(tensor, order) if tensor.device.type == NAME else put_host(tensor, order))
                cells.append(None)
        operands += self._constants
        for argument, spec in self._donated:
            if reference_count(operands, argument) > _COUNT_WITH_ONE_CELL:
                session().statistics.count("donations_refused", "another tensor holds the buffer, as a copy does")
                operands[argument] = duplicate(operands[argument], spec.physical_shape, spec.dtype)
            else:
                self._traffic.donations += 1
        buffers: list[Buffer] = []
        donors = [(cells[a], r) for _, r, a, _ in self._updates if a is not None and cells[a] is not None]
        exchange = map(
            setattr, [cell for cell, _ in donors], repeat("buffer"), map(buffers.__getitem__, [r for _, r in donors])
        )
        try:
            self._launch.into(buffers, operands)
        finally:
            # Cells whose memory was donated get the new buffers, also if a signal that came while the program ran
            # raises now, as Ctrl-C does. It is one call of C's, so that no other signal is handled in between.
            if buffers:
                deque(exchange, maxlen=0)
        for position, result, argument, spec in self._updates:
            if argument is None or cells[argument] is None:
                write(inputs[position], buffers[result], spec.order)
        results: list[torch.Tensor | None] = [None] * self._count
        for i, spec in self._results:
            results[i] = _tensor(buffers[i], spec)
        return results


def _tensor(buffer: Buffer, spec: TensorSpec) -> torch.Tensor:
    if spec.device == NAME:
        return wrap(buffer, spec.shape, spec.dtype, spec.order)
    inverse = [spec.order.index(d) for d in range(len(spec.order))]
    return transfer().take([buffer], [spec.dtype])[0].permute(inverse)
