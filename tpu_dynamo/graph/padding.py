"""A call's tensors in padded ones, and the true tensors out of those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from math import prod
from typing import Any

import sympy
import torch

from tpu_dynamo_lowering import Extent

Lengths = Mapping[sympy.Symbol, int | float]


@dataclass(frozen=True)
class Place:
    """Where a true tensor is in a padded one, for one call.

    dims: for each dimension the sizes of its parts, and how many elements of each are true.
    """

    dims: tuple[tuple[tuple[int, int], ...], ...]

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The padded shape."""
        return tuple(prod(size for size, _ in dim) for dim in self.dims)

    @cached_property
    def true(self) -> tuple[int, ...]:
        """The true shape."""
        return tuple(prod(true for _, true in dim) for dim in self.dims)

    def taken(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the true elements of a padded tensor: a view of it, where each dimension begins with them."""
        if all(len(dim) <= 1 for dim in self.dims):
            return _narrowed(tensor, self.true)
        sizes, counts = zip(*chain.from_iterable(self.dims), strict=True)
        return _narrowed(tensor.reshape(sizes), counts).reshape(self.true)

    def put(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a padded tensor that holds a true one; zeros are beside it."""
        padded = torch.zeros(self.shape, dtype=tensor.dtype, device=tensor.device)
        sizes, counts = zip(*chain.from_iterable(self.dims), strict=True)
        _narrowed(padded.view(sizes), counts).copy_(tensor.detach().reshape(counts))
        return padded


def _narrowed(tensor: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    for dim, size in enumerate(shape):
        if size != tensor.shape[dim]:
            tensor = tensor.narrow(dim, 0, size)
    return tensor


def place(extents: Sequence[Extent], lengths: Lengths) -> Place:
    """Return where a tensor of these dimensions is in a call with these true numbers."""
    return Place(tuple(tuple((part.size, count(part.true, lengths)) for part in extent) for extent in extents))


def count(expression: sympy.Expr, lengths: Lengths) -> int:
    """Return the value of an expression of a call's true numbers."""
    value: Any = expression.xreplace({symbol: sympy.sympify(number) for symbol, number in lengths.items()})
    return int(value)
