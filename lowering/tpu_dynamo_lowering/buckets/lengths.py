"""Certainties about sizes that are expressions of lengths, for all lengths that a bucket holds."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import sympy

from .._torch_compat import symbolic_functions as torch_functions
from .extents import NotProven, Part

Sizes = Mapping[sympy.Symbol, int | float]

# A size that is no simple expression of a length is computed for each length of buckets up to this one.
_TRIED = 4096


def require_room(part: Part, sizes: Sizes) -> None:
    """Raise NotProven where more elements may be true than there are places, as of `-length % 8` for small lengths.

    sizes: the bucket's.
    """
    if _grows(part.true):
        return
    if any(true > part.size for (true,) in _values([part.true], sizes)):
        raise NotProven(f"its size {part.true} may be larger for a smaller length")


def equal(left: sympy.Expr, right: sympy.Expr, sizes: Sizes) -> bool:
    """Say whether two sizes are equal: by their form, or for all lengths of the bucket. Raises NotProven."""
    difference = sympy.expand(left - right)
    if difference == 0:
        return True
    return bool(difference.free_symbols) and all(mine == other for mine, other in _values([left, right], sizes))


def _values(expressions: Sequence[sympy.Expr], sizes: Sizes) -> list[list[Any]]:
    """Return the values of expressions of one length for every length that the bucket may hold.

    A length for which they have none, since they divide by it, is none of the graph's. Raises NotProven for expressions
    of several lengths.
    """
    symbols = list({symbol for expression in expressions for symbol in expression.free_symbols})
    size = sizes.get(symbols[0]) if len(symbols) == 1 else None  # pyright: ignore[reportArgumentType]
    if size is None or size > _TRIED:
        raise NotProven(f"its size {expressions[0]} is no simple one")
    found: list[list[Any]] = []
    for length in range(1, int(size) + 1):
        with contextlib.suppress(ZeroDivisionError):
            found.append([each.xreplace({symbols[0]: sympy.Integer(length)}) for each in expressions])
    return found


def _grows(expression: Any) -> bool:
    """Say whether an expression of lengths is by its form never smaller for larger ones."""
    if isinstance(expression, torch_functions.FloorDiv | torch_functions.CleanDiv):
        divisor: Any = expression.args[1]
        return bool(divisor.is_Integer) and divisor > 0 and _grows(expression.args[0])
    if isinstance(expression, sympy.Max | sympy.Min | torch_functions.Max | torch_functions.Min):
        return all(map(_grows, expression.args))
    if isinstance(expression, sympy.Add):
        return all(map(_grows, expression.args))
    factor, terms = expression.as_coeff_mul()
    return expression.is_number or (factor > 0 and all(map(_is_length, terms)))


def _is_length(expression: Any) -> bool:
    """Say whether a factor is never negative, and never smaller for larger lengths."""
    if isinstance(expression, torch_functions.FloorDiv | torch_functions.CleanDiv):
        return _is_length(expression.args[0]) and _grows(expression)
    if isinstance(expression, sympy.Pow):
        return _is_length(expression.args[0]) and bool(expression.args[1].is_Integer) and expression.args[1] > 0
    return bool(expression.is_Symbol)
