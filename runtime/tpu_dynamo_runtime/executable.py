"""A program with everything about its calls decided beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from .client import Buffer, Client, execute
from .operands import CopiedOperands, Operand, Operands, Order, SharedOperands
from .pool import Entry
from .residents import Residents
from .traffic import Traffic
from .transfer import Copying, SharedMemory, Transfer


class Executable:
    """A program, called with a graph's inputs and giving the graph's tensor outputs.

    operands: the parameters of `@main` but for the last ones, which are `constants`: tensors put on the device
    once. results: for each result its dtype and memory order. updates: positions of inputs that are written to, each
    with the number of the result that they become. traffic: where runs and copies are counted. copying: move tensors
    by copies even where memory could be shared. kept: results that stay on the device, as a forward's for its
    backward, each with what makes a tensor of its buffer; buffer_of: gives back the buffer of such a tensor.
    residents: where copies of parameters are shared with other programs.
    """

    def __init__(
        self,
        client: Client,
        program: Entry,
        traffic: Traffic,
        operands: Sequence[Operand],
        results: Sequence[tuple[torch.dtype, Order]],
        updates: Sequence[tuple[int, int]] = (),
        constants: Sequence[torch.Tensor] = (),
        copying: bool = False,
        kept: Mapping[int, Callable[[Buffer], torch.Tensor]] | None = None,
        buffer_of: Callable[[torch.Tensor], Buffer | None] = lambda tensor: None,
        residents: Residents | None = None,
    ):
        operands = [replace(operand, order=_or_none(operand.order)) for operand in operands]
        self._program = program
        self._traffic = traffic
        self._transfer: Transfer
        self._operands: Operands
        if client.platform == "cpu" and not copying:
            self._transfer, self._operands = SharedMemory(client), SharedOperands(client, operands)
        else:
            self._transfer = Copying(client, traffic)
            self._operands = CopiedOperands(self._transfer, operands, residents or Residents(), buffer_of)
        self._results = [(dtype, _inverse(_or_none(order))) for dtype, order in results]
        self._updates = updates
        self._kept = dict(kept or {})
        self._constants = [self._transfer.put(tensor) for tensor in constants]

    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Run on `inputs`, CPU tensors of the shapes and dtypes that the program was lowered for.

        The results are fresh tensors whose strides are those that eager PyTorch gives, for dense tensors.
        """
        buffers = self.execute(self.operands(inputs))
        take = self._transfer.take
        kept = {i: tensor_of(buffers[i]) for i, tensor_of in self._kept.items()}
        outputs = []
        for i, (buffer, (dtype, inverse)) in enumerate(zip(buffers, self._results, strict=True)):
            if i in kept:
                outputs.append(kept[i])
                continue
            tensor = take(buffer, dtype)
            outputs.append(tensor if inverse is None else tensor.permute(inverse))
        for position, result in self._updates:
            with torch.no_grad():
                inputs[position].detach().copy_(outputs[result])
        return outputs

    @property
    def constant_bytes(self) -> int:
        """Bytes of the device's memory that the program's constants take."""
        return 0 if isinstance(self._transfer, SharedMemory) else sum(buffer.nbytes for buffer in self._constants)

    def operands(self, inputs: Sequence[torch.Tensor]) -> list[Buffer]:
        """The buffers that `@main` takes."""
        return self._operands(inputs) + self._constants

    def execute(self, operands: Sequence[Buffer]) -> list[Buffer]:
        """What `@main` gives; the program is loaded first if it was evicted."""
        buffers = execute(self._program.loaded(), operands)
        self._traffic.executions += 1
        self._program.last_use = self._traffic.executions
        return buffers


def _or_none(order: Order) -> Order:
    return None if order is None or order == tuple(range(len(order))) else order


def _inverse(order: Order) -> Order:
    return None if order is None else tuple(order.index(d) for d in range(len(order)))
