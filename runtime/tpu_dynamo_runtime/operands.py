"""A program's operands: which tensors of a call it takes, and in which form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch

from .residents import MemoryOrder


@dataclass(frozen=True)
class Operand:
    """One parameter of `@main`: the position of its tensor among a call's inputs, and the form in which it is passed.

    order: the memory order in which the program takes it. resident: the same tensor comes with every call, a
    model's parameter, and always with the strides that it has the first time.
    """

    position: int
    order: MemoryOrder = None
    resident: bool = False

    def dense(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor as the program takes it: in its memory order, contiguous, without lazy conjugation."""
        if self.order is not None:
            tensor = tensor.permute(self.order)
        if tensor.is_conj():
            tensor = tensor.resolve_conj()
        if tensor.is_neg():
            tensor = tensor.resolve_neg()
        return tensor if tensor.is_contiguous() else tensor.contiguous()


def items_at(positions: Sequence[int]) -> Callable[[Sequence[Any]], Iterable[Any]]:
    """Return a getter of the items at these positions: `itemgetter`, one call into C, from two positions on."""
    # `itemgetter` gives no tuple of one item, and takes at least one.
    return itemgetter(*positions) if len(positions) > 1 else lambda items: [items[position] for position in positions]
