"""Compiled graphs on device tensors: buffers go in and out, and nothing crosses to the host."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tpu_dynamo_lowering import Argument, TensorSpec
from tpu_dynamo_runtime import Buffer, Entry, execute

from ..session import session
from ._torch_compat import NAME
from .cells import strides_of, wrap
from .memory import put_host, read
from .programs import transfer


class DeviceExecutable:
    """A program, called with a graph's inputs on the device and giving its tensor outputs there.

    Tensors of the CPU among the inputs, which PyTorch allows without dimensions, are uploaded; outputs that the graph
    has on the CPU are fetched.
    """

    def __init__(
        self,
        entry: Entry,
        arguments: Sequence[Argument],
        results: Sequence[TensorSpec],
        constants: Sequence[torch.Tensor],
    ):
        self._entry = entry
        self._traffic = session().statistics.traffic
        self._operands = [
            (a.position, a.spec.physical_shape, strides_of(a.spec.physical_shape, a.spec.order), a.spec.order)
            for a in arguments
        ]
        self._results = [(spec, tuple(spec.order.index(d) for d in range(len(spec.order)))) for spec in results]
        self._constants = [transfer().put(tensor) for tensor in constants]

    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Run; the results are fresh tensors."""
        operands: list[Buffer] = []
        for position, physical, stride, order in self._operands:
            tensor = inputs[position]
            if tensor.is_neg() or tensor.is_conj():  # lazily; its storage has other values
                tensor = tensor.resolve_neg().resolve_conj()
            cell = getattr(tensor.untyped_storage(), "cell", None)
            if cell is None:
                operands.append(read(tensor, order) if tensor.device.type == NAME else put_host(tensor, order))
            elif cell.shape == physical and cell.dtype == tensor.dtype and tensor.stride() == stride:
                operands.append(cell.buffer)
            else:
                operands.append(read(tensor, order))
        buffers = execute(self._entry.loaded(), operands + self._constants)
        self._traffic.executions += 1
        self._entry.last_use = self._traffic.executions
        return [
            wrap(buffer, spec.shape, spec.dtype, spec.order)
            if spec.device == NAME
            else transfer().take(buffer, spec.dtype).permute(inverse)
            for buffer, (spec, inverse) in zip(buffers, self._results, strict=True)
        ]
