"""A program with everything about its calls decided beforehand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import replace

import torch

from .launch import Result
from .operands import Operand
from .residents import Order


class Executable(ABC):
    """A program, called with a graph's inputs, CPU tensors, and giving the graph's tensor outputs.

    operands: what the program takes. results: what it gives. updates: positions of inputs that are written to, each
    with the number of the result that they become. kept: numbers of results that are tensors as they come.
    `constant_bytes` are what the program's constants take of a device's own memory.
    """

    constant_bytes = 0

    def __init__(
        self,
        operands: Sequence[Operand],
        results: Sequence[Result],
        updates: Sequence[tuple[int, int]],
        kept: Collection[int] = (),
    ):
        # Dimensions in their own order are asked for more quickly as None.
        self._operands = [o if _permutes(o.order) else replace(o, order=None) for o in operands]
        orders = [(i, result.order) for i, result in enumerate(results) if i not in kept]
        self._permuted = [(i, _inverse(order)) for i, order in orders if _permutes(order)]
        self._updates = updates
        self._finished = not (self._permuted or updates)

    @abstractmethod
    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Run on tensors of the shapes and dtypes that the program was lowered for.

        The results are fresh tensors whose strides are those that eager PyTorch gives, for dense tensors.
        """

    def _finish(self, inputs: Sequence[torch.Tensor], outputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """The program's results as the graph's: with their strides, and written to the inputs that they become."""
        for i, inverse in self._permuted:
            outputs[i] = outputs[i].permute(inverse)
        for position, result in self._updates:
            with torch.no_grad():
                inputs[position].detach().copy_(outputs[result])
        return outputs


def _permutes(order: Order) -> bool:
    return order is not None and order != tuple(range(len(order)))


def _inverse(order: Order) -> tuple[int, ...]:
    assert order is not None
    return tuple(order.index(d) for d in range(len(order)))
