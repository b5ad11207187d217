"""Programs on a device with its own memory: tensors are copied there and results back, parameters once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from .executable import Executable, ProgramInterface
from .launch import Launch
from .pjrt import Buffer
from .pool import PooledProgram
from .residents import Copy, Residents
from .traffic import Traffic
from .transfer import Copying


class CopiedExecutable(Executable):
    """A program on a device with its own memory: copies the inputs there and the results back.

    Constants are put on the device once, parameters once for each of their versions. traffic: where runs and copies are
    counted. kept: results that stay on the device, as a forward's for its backward, each with the function that makes a
    tensor of its buffer. buffer_of: gives back the buffer of such a tensor, None for others. residents: where copies of
    parameters are shared with other programs.
    """

    def __init__(
        self,
        program: PooledProgram,
        traffic: Traffic,
        interface: ProgramInterface,
        kept: Mapping[int, Callable[[Buffer], torch.Tensor]] | None = None,
        buffer_of: Callable[[torch.Tensor], Buffer | None] = lambda tensor: None,
        residents: Residents | None = None,
        described: str = "",
    ):
        self._kept = kept or {}
        super().__init__(interface, self._kept, described)
        self._launch = Launch(program, interface.results, traffic, described)
        self._transfer = Copying(program.client, traffic)
        self._constants = [self._transfer.put(tensor) for tensor in interface.constants]
        self.constant_bytes = sum(buffer.nbytes for buffer in self._constants)
        self._residents = residents or Residents()
        self._copies: list[Copy | None] = [None] * len(interface.operands)
        self._buffer_of = buffer_of
        self._dtypes = [result.dtype for i, result in enumerate(interface.results) if i not in self._kept]

    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Copy the inputs to the device, run, and copy the results back, but for those that are kept there."""
        buffers = self._launch(self._buffers(inputs))
        fetched = self._transfer.take([b for i, b in enumerate(buffers) if i not in self._kept], self._dtypes)
        taken = iter(fetched)
        outputs = [self._kept[i](b) if i in self._kept else next(taken) for i, b in enumerate(buffers)]
        return outputs if self._finished else self._finish(inputs, outputs)

    def _buffers(self, inputs: Sequence[torch.Tensor]) -> list[Buffer]:
        """Return the program's arguments: a buffer with each tensor's present values, then the constants."""
        buffers: list[Buffer] = []
        for i, operand in enumerate(self._operands):
            tensor, copy = inputs[operand.position], self._copies[i]
            if copy is not None and copy.holds(tensor):
                buffers.append(copy.buffer)
            elif (buffer := self._buffer_of(tensor)) is not None:
                buffers.append(buffer)
            # Inference tensors have no versions: they are uploaded with each call.
            elif operand.resident and not tensor.is_inference():
                copy = self._residents.find(tensor, operand.order)
                if copy is None:
                    copy = self._residents.add(tensor, operand.order, self._transfer.put(operand.dense(tensor)))
                self._copies[i] = copy
                buffers.append(copy.buffer)
            else:
                buffers.append(self._transfer.put(operand.dense(tensor)))
        buffers += self._constants
        return buffers
