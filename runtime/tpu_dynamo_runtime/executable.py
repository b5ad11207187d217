"""An executable with everything about its calls decided beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from .client import Client, execute
from .pool import Entry
from .residents import CopiedResidents, Residents, SharedResidents
from .traffic import Traffic
from .transfer import Copying, SharedMemory, Transfer

# A tensor's dimensions from the outermost in memory to the innermost; None for row-major.
Order = tuple[int, ...] | None


@dataclass(frozen=True)
class Operand:
    """One parameter of `@main`: the position of its tensor among a call's inputs, and how it crosses.

    order: the memory order in which the program takes it. resident: the same tensor comes with every call, a
    model's parameter, and always with the strides that it has the first time.
    """

    position: int
    order: Order = None
    resident: bool = False


class Executable:
    """A program, called with a graph's inputs and giving the graph's tensor outputs.

    operands: the parameters of `@main` but for the last ones, which are `constants`: tensors put on the device
    once. results: for each result its dtype and memory order. traffic: where runs and copies are counted.
    copying: move tensors by copies even where memory could be shared.
    """

    def __init__(
        self,
        client: Client,
        program: Entry,
        traffic: Traffic,
        operands: Sequence[Operand],
        results: Sequence[tuple[torch.dtype, Order]],
        constants: Sequence[torch.Tensor] = (),
        copying: bool = False,
    ):
        self._program = program
        shared = client.platform == "cpu" and not copying
        self.transfer: Transfer = SharedMemory(client) if shared else Copying(client, traffic)
        self._traffic = traffic
        self._results = tuple((dtype, _inverse(_or_none(order))) for dtype, order in results)
        self._constants = [self.transfer.put(tensor) for tensor in constants]
        resident = [o for o in operands if o.resident]
        dense = [partial(_dense, order=_or_none(o.order)) for o in resident]
        self.residents: Residents = (
            SharedResidents(client, dense) if shared else CopiedResidents(self.transfer.put, dense)
        )
        self._resident_positions = [o.position for o in resident]
        self._moving = [(i, o.position, _or_none(o.order)) for i, o in enumerate(operands) if not o.resident]

    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Run on `inputs`, CPU tensors of the shapes and dtypes that the program was lowered for.

        The results are fresh tensors whose strides are those that eager PyTorch gives, for dense tensors.
        """
        operands = self.residents.operands([inputs[position] for position in self._resident_positions]).copy()
        put, take = self.transfer.put, self.transfer.take
        for i, position, order in self._moving:
            # In the order of the parameters, so each finds its place among the residents.
            operands.insert(i, put(_dense(inputs[position], order)))
        operands += self._constants
        buffers = execute(self._program.loaded(), operands)
        self._traffic.executions += 1
        self._program.last_use = self._traffic.executions
        outputs = []
        for buffer, (dtype, inverse) in zip(buffers, self._results, strict=True):
            tensor = take(buffer, dtype)
            outputs.append(tensor if inverse is None else tensor.permute(inverse))
        return outputs


def _dense(tensor: torch.Tensor, order: Order) -> torch.Tensor:
    """The tensor as the program takes it: permuted to its memory order, contiguous, without lazy conjugation."""
    if order is not None:
        tensor = tensor.permute(order)
    if tensor.is_conj():
        tensor = tensor.resolve_conj()
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def _or_none(order: Order) -> Order:
    return None if order is None or order == tuple(range(len(order))) else order


def _inverse(order: Order) -> Order:
    return None if order is None else tuple(order.index(d) for d in range(len(order)))
