"""An executable with everything about its calls decided beforehand."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .client import Client, LoadedExecutable, execute
from .traffic import Traffic
from .transfer import Copying, SharedMemory, Transfer

# A tensor's dimensions from the outermost in memory to the innermost; None for row-major.
Order = tuple[int, ...] | None


class Executable:
    """A loaded executable, called with a graph's inputs and giving the graph's tensor outputs.

    arguments: for each parameter of `@main` the position of its tensor among a call's inputs, and the memory
    order in which the program takes it. results: for each result its dtype and memory order. constants:
    tensors for the last parameters, put on the device once. traffic: where runs and copies are counted.
    copying: move tensors by copies even where memory could be shared.
    """

    def __init__(
        self,
        client: Client,
        loaded: LoadedExecutable,
        traffic: Traffic,
        arguments: Sequence[tuple[int, Order]],
        results: Sequence[tuple[torch.dtype, Order]],
        constants: Sequence[torch.Tensor] = (),
        copying: bool = False,
    ):
        self.loaded = loaded
        shared = client.platform == "cpu" and not copying
        self.transfer: Transfer = SharedMemory(client) if shared else Copying(client, traffic)
        self._traffic = traffic
        self._arguments = tuple((position, _or_none(order)) for position, order in arguments)
        self._results = tuple((dtype, _inverse(_or_none(order))) for dtype, order in results)
        self._constants = [self.transfer.put(tensor) for tensor in constants]

    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Run on `inputs`, CPU tensors of the shapes and dtypes that the program was lowered for.

        The results are fresh tensors whose strides are those that eager PyTorch gives, for dense tensors.
        """
        put, take = self.transfer.put, self.transfer.take
        operands = [put(_dense(inputs[position], order)) for position, order in self._arguments]
        operands += self._constants
        buffers = execute(self.loaded, operands)
        self._traffic.executions += 1
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
