"""Places of true tensors in padded ones: each dimension as parts, of which the first elements are true.

A dimension of 4 x length elements that `view` made of [4, length] is, padded to 64, four times 64 elements of which the
first `length` are true: the parts (4 of 4) and (length of 64). A part in whose place more elements stand than are true
is padded. Dimensions of size 1 have no parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import sympy


class NotProven(Exception):
    """Padding might reach the true values."""


@dataclass(frozen=True)
class Part:
    """One factor of a dimension: `size` places, of which the first `true` hold true elements."""

    true: sympy.Expr
    size: int

    @property
    def padded(self) -> bool:
        """True where the number of true elements changes from call to call."""
        return not self.true.is_number


# From the outermost part to the innermost.
Extent = tuple[Part, ...]


def whole(size: int) -> Extent:
    """Return a dimension of which all elements are true."""
    return () if size == 1 else (Part(sympy.Integer(size), size),)


def leading(true: sympy.Expr | int, size: int) -> Extent:
    """Return a dimension of `size` elements of which the first `true` are true."""
    expression = sympy.sympify(true)
    return whole(size) if expression.is_number else (Part(sympy.expand(expression), size),)


def merged(parts: Iterable[Part]) -> Extent:
    """Return parts in the form in which equal dimensions are equal: neighbours are one wherever they can be."""
    found: list[Part] = []
    for part in parts:
        if part.size == 1 and not part.padded:
            continue
        # All elements of an inner whole part belong to each element of the outer one, so they lead as that does.
        if found and not part.padded:
            outer = found.pop()
            found.append(Part(sympy.expand(outer.true * part.true), outer.size * part.size))
        else:
            found.append(part)
    return tuple(found)


def is_padded(extent: Extent) -> bool:
    """Say whether a dimension has elements that are not true."""
    return any(part.padded for part in extent)


def size_of(extent: Extent) -> int:
    """Return the number of a dimension's elements, true or not."""
    return prod(part.size for part in extent)


def true_size(extent: Extent) -> sympy.Expr:
    """Return the number of a dimension's true elements."""
    return sympy.expand(sympy.Mul(*(part.true for part in extent)))


def only_leading(extent: Extent) -> bool:
    """Say whether the true elements of a dimension are its first ones."""
    return len(extent) <= 1


def viewed(extents: Sequence[Extent], true: Sequence[sympy.Expr], sizes: Sequence[int]) -> list[Extent]:
    """Return the dimensions of a tensor that is viewed in the shape `sizes`, whose true shape is `true`.

    Raises NotProven where a padded part would have to be cut elsewhere than between its elements.
    """
    rest = [part for extent in extents for part in extent]
    found = []
    unseen = False  # whether a division of lengths was taken on trust
    for expression, size in zip(true, sizes, strict=True):
        taken: list[Part] = []
        need = size
        while need > 1:
            if not rest:
                raise NotProven("its shape is not the one that its sizes give")
            part = rest.pop(0)
            if need % part.size == 0:
                taken.append(part)
                need //= part.size
                continue
            inner = part.size // need
            if part.size % need:
                raise NotProven("it cuts a padded dimension elsewhere than between its rows")
            outer = sympy.expand(part.true / inner)
            if not _is_count(outer):
                # As many elements go in as come out, so one quotient follows from the others: that which is asked for.
                outer = sympy.expand(expression / true_size(tuple(taken)))
                if unseen or not part.padded or outer.is_number:
                    raise NotProven("it cuts a padded dimension elsewhere than between its rows")
                unseen = True
            taken.append(Part(outer, need))
            rest.insert(0, Part(sympy.Integer(inner), inner))
            need = 1
        found.append(merged(taken))
        if sympy.expand(true_size(found[-1]) - expression) != 0:
            raise NotProven("its padded dimensions would come to lie elsewhere")
    if any(part.padded for part in rest):
        raise NotProven("a padded dimension would be left out")
    return found


def _is_count(expression: Any) -> bool:
    """Say whether an expression of counts is one of whole numbers by its form."""
    return all(factor.is_Integer for factor in expression.as_coefficients_dict().values())
