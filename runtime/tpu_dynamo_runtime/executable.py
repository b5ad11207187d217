"""A program with everything about its calls decided beforehand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch

from .launch import Result
from .operands import Operand
from .residents import MemoryOrder


@dataclass(frozen=True)
class ProgramInterface:
    """The tensors that enter and leave `@main`.

    operands: its parameters but for the last ones, which are `constants`. updates: positions of inputs that are
    written to, each with the number of the result that is their new value.
    """

    operands: Sequence[Operand]
    results: Sequence[Result]
    updates: Sequence[tuple[int, int]] = ()
    constants: Sequence[torch.Tensor] = ()


class Executable(ABC):
    """A program, called with a graph's inputs, CPU tensors, and giving the graph's tensor outputs.

    kept: numbers of results that stay in the memory order in which the program gives them.
    described: the graph that it computes, for people; equal graphs share a program.
    `constant_bytes` are what the program's constants take of a device's own memory.
    """

    constant_bytes = 0

    def __init__(self, interface: ProgramInterface, kept: Collection[int] = (), described: str = ""):
        self.described = described
        # Dimensions in their own order are asked for more quickly as None.
        self._operands = [o if _permutes(o.order) else replace(o, order=None) for o in interface.operands]
        orders = [(i, result.order) for i, result in enumerate(interface.results) if i not in kept]
        self._permuted = [(i, _inverse(order)) for i, order in orders if _permutes(order)]
        self._updates = interface.updates
        self._finished = not (self._permuted or interface.updates)

    @abstractmethod
    def __call__(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Run on tensors of the shapes and dtypes that the program was lowered for.

        The results are fresh tensors whose strides are those that eager PyTorch gives, for dense tensors.
        """

    def _finish(self, inputs: Sequence[torch.Tensor], outputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Give the program's results the graph's strides, and write them to the inputs that they update."""
        for i, inverse in self._permuted:
            # Autograd refuses changes in place of views that were made where it does not look: it is none to autograd.
            outputs[i] = outputs[i].permute(inverse).detach()
        for position, result in self._updates:
            with torch.no_grad():
                inputs[position].detach().copy_(outputs[result])
        return outputs


def _permutes(order: MemoryOrder) -> bool:
    return order is not None and order != tuple(range(len(order)))


def _inverse(order: MemoryOrder) -> tuple[int, ...]:
    assert order is not None
    return tuple(order.index(d) for d in range(len(order)))
