"""A program with everything about its calls decided beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from .launch import Launch, Result
from .operands import CopiedOperands, Operand, Operands, SharedOperands
from .pjrt import Buffer, Client
from .pool import Entry
from .residents import Order, Residents
from .traffic import Traffic
from .transfer import Copying, SharedMemory, Transfer


class Executable:
    """A program, called with a graph's inputs and giving the graph's tensor outputs.

    operands: the parameters of `@main` but for the last ones, which are `constants`: tensors put on the device
    once. updates: positions of inputs that are written to, each
    with the number of the result that they become. traffic: where runs and copies are counted. copying: move tensors
    by copies even where memory could be shared. kept: results that stay on the device, as a forward's for its
    backward, each with what makes a tensor of its buffer; buffer_of: gives back the buffer of such a tensor.
    residents: where copies of parameters are shared with other programs. Its attribute `operands` gives the buffers
    that `launch` takes; `constant_bytes` are what the constants take of the device's memory.
    """

    def __init__(
        self,
        client: Client,
        program: Entry,
        traffic: Traffic,
        operands: Sequence[Operand],
        results: Sequence[Result],
        updates: Sequence[tuple[int, int]] = (),
        constants: Sequence[torch.Tensor] = (),
        copying: bool = False,
        kept: Mapping[int, Callable[[Buffer], torch.Tensor]] | None = None,
        buffer_of: Callable[[torch.Tensor], Buffer | None] = lambda tensor: None,
        residents: Residents | None = None,
    ):
        operands = [replace(operand, order=_or_none(operand.order)) for operand in operands]
        self.launch = Launch(program, results, traffic)
        shared = client.platform == "cpu" and not copying
        transfer: Transfer = SharedMemory(client) if shared else Copying(client, traffic)
        buffers = [transfer.put(tensor) for tensor in constants]
        self.operands: Operands
        if isinstance(transfer, Copying):
            self.operands = CopiedOperands(transfer, operands, residents or Residents(), buffers, buffer_of)
        else:
            self.operands = SharedOperands(client, operands, buffers)
        self.constant_bytes = 0 if shared else sum(buffer.nbytes for buffer in buffers)
        dtypes = [result.dtype for i, result in enumerate(results) if i not in (kept or {})]
        self._take = client.take_shared if shared else partial(transfer.take, dtypes=dtypes)
        inverses = [(i, _inverse(_or_none(result.order))) for i, result in enumerate(results)]
        self._permuted = [(i, inverse) for i, inverse in inverses if inverse is not None and i not in (kept or {})]
        self._kept = kept
        self._updates = updates

    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Run on `inputs`, CPU tensors of the shapes and dtypes that the program was lowered for.

        The results are fresh tensors whose strides are those that eager PyTorch gives, for dense tensors.
        """
        buffers = self.launch(self.operands(inputs))
        outputs = self._take_some(buffers, self._kept) if self._kept else self._take(buffers)
        for i, inverse in self._permuted:
            outputs[i] = outputs[i].permute(inverse)
        for position, result in self._updates:
            with torch.no_grad():
                inputs[position].detach().copy_(outputs[result])
        return outputs

    def _take_some(
        self, buffers: list[Buffer], kept: Mapping[int, Callable[[Buffer], torch.Tensor]]
    ) -> list[torch.Tensor]:
        taken = iter(self._take([buffer for i, buffer in enumerate(buffers) if i not in kept]))
        return [kept[i](buffer) if i in kept else next(taken) for i, buffer in enumerate(buffers)]


def _or_none(order: Order) -> Order:
    return None if order is None or order == tuple(range(len(order))) else order


def _inverse(order: Order) -> Order:
    return None if order is None else tuple(order.index(d) for d in range(len(order)))
