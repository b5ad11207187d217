"""The table of rules, and what they have in common.

A rule takes the builder, the node of the symbolic graph and its arguments by name (tensors as Values, numbers that
were symbolic as Numbers), adds to the padded graph what computes the same true elements whatever stands beside those
of its inputs, and returns the result, or a list of results. It raises NotProven where it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch.fx import Node

from ..._torch_compat import OpOverload
from ..extents import Extent, NotProven, is_padded
from ..values import Builder, Value

Arguments = dict[str, Any]
Rule = Callable[[Builder, Node, Arguments], Value | list[Value | None]]

# By overload; operators that other packages define by the name in their schema.
RULES: dict[OpOverload | str, Rule] = {}


def rule_of(target: OpOverload) -> Rule | None:
    """Return the rule of an operator, None where there is none."""
    return RULES.get(target) or RULES.get(target._schema.name)


def rule(*overloads: OpOverload | str) -> Callable[[Rule], Rule]:
    """Enter a function as the rule of some operators."""

    def enter(function: Rule) -> Rule:
        for overload in overloads:
            assert overload not in RULES, overload
            RULES[overload] = function
        return function

    return enter


def values_of(arguments: Arguments) -> list[Value]:
    """Return the tensors among a call's arguments, those in lists too."""
    found = []
    for argument in arguments.values():
        found += [v for v in (argument if isinstance(argument, list) else [argument]) if isinstance(v, Value)]
    return found


def broadcast(values: Iterable[Value], rank: int | None = None) -> tuple[Extent, ...]:
    """Return the dimensions of tensors that are broadcast together. Raises NotProven where true elements differ."""
    values = list(values)
    rank = max((value.ndim for value in values), default=0) if rank is None else rank
    found: list[Extent] = [()] * rank
    for value in values:
        for place, extent in enumerate(value.extents, rank - value.ndim):
            if extent == ():
                continue
            if found[place] not in ((), extent):
                raise NotProven("true elements of its inputs lie in different places")
            found[place] = extent
    return tuple(found)


def dims_of(dim: Any, rank: int) -> list[int]:
    """Return the dimensions that an argument names, as numbers from 0; all where it names none."""
    if dim is None or (isinstance(dim, list | tuple) and not dim):
        return list(range(rank))
    return [d % max(rank, 1) for d in (dim if isinstance(dim, list | tuple) else [dim])]


def without(extents: Sequence[Extent], dims: Iterable[int], keep: bool) -> tuple[Extent, ...]:
    """Return the dimensions that are left when some are reduced, or kept with one element each."""
    dims = set(dims)
    return tuple(() if d in dims else extent for d, extent in enumerate(extents) if keep or d not in dims)


def require_whole(value: Value, dims: Iterable[int], why: str) -> None:
    """Raise NotProven with `why` if some of these dimensions are padded."""
    if any(is_padded(value.extents[d]) for d in dims):
        raise NotProven(why)
