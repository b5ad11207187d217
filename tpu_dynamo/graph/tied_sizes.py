"""Buckets of dimensions whose sizes depend on each other, as those of a cache and of a mask with one more element."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import sympy
from sympy.core.relational import Relational

from .._torch_compat import SizeFacts

Bucket = Mapping[sympy.Symbol, int | float]


def fitted(bucket: Bucket, sizes: Bucket, padded: Sequence[sympy.Symbol], facts: SizeFacts) -> Bucket | None:
    """Return the bucket, or one near it for which the graph is right; None where none is found.

    sizes: the true ones, of which the bucket's are not smaller, and integers that are no sizes. padded: the symbols
    whose sizes in the bucket may be others; those of one size keep one, as of keys and values, of which no condition
    says that they are as long. Later ones follow earlier ones, so that the same sizes come out for all calls.
    """
    together: dict[tuple[float, float], list[sympy.Symbol]] = {}
    for symbol in padded:
        together.setdefault((sizes[symbol], bucket[symbol]), []).append(symbol)
    free = list(together.values())
    while (failing := facts.failing(bucket)) is not None:
        found: list[tuple[list[sympy.Symbol], Bucket]] = []
        for symbols in reversed(free):
            size = _nearest(failing, {**sizes, **bucket}, symbols, sizes[symbols[0]])
            if size is not None and all(size <= (facts.largest.get(symbol) or size) for symbol in symbols):
                found.append((symbols, {**bucket, **dict.fromkeys(symbols, size)}))
        if not found:
            return None
        symbols, bucket = next((each for each in found if facts.hold(each[1])), found[0])
        free.remove(symbols)
    return bucket


def _nearest(condition: Any, sizes: Bucket, symbols: Sequence[sympy.Symbol], least: float) -> int | None:
    """Return the number nearest to that of some symbols with which a condition holds, if it is of sums and maxima.

    None for one that divides: it may ask for odd sizes, of which no bucket is.
    """
    if not isinstance(condition, Relational) or not condition.free_symbols.intersection(symbols):
        return None
    condition = condition.xreplace({other: sympy.sympify(n) for other, n in sizes.items() if other not in symbols})
    if not condition.free_symbols.issubset(symbols) or condition.atoms(sympy.Function):
        return None

    def at(number: int) -> dict[sympy.Symbol, sympy.Integer]:
        return dict.fromkeys(symbols, sympy.Integer(number))

    size = int(sizes[symbols[0]])
    difference: Any = condition.lhs - condition.rhs
    here, after = (difference.xreplace(at(size + more)) for more in (0, 1))
    if here == after:
        return None
    boundary = size - here / (after - here)
    near = range(max(math.floor(boundary) - 1, int(least)), math.ceil(boundary) + 2)
    holding = [number for number in near if condition.xreplace(at(number)) == sympy.true]
    return min(holding, key=lambda number: abs(number - size), default=None)
