"""Names of operations in HLO replaced: a program that was found has those of the source that it was compiled from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from .hlo import OPERATION_NAME, Origin, escaped, origin_in, unescaped

_Key = tuple[str | int, ...]


class Renaming:
    """Replaces the names of a graph's operations by those that the same operations have in an equal graph.

    before, after: the names of both graphs in one order, "" where there is none. Lists of unequal length, or none,
    say nothing of each other: every name stays.

    ambiguous: places by which a name was replaced that several operations had, which have different places now.
    """

    def __init__(self, before: Sequence[str] | None, after: Sequence[str]):
        self.ambiguous: set[tuple[str, int]] = set()
        self._after: dict[_Key, list[Origin]] = {}
        if before is None or len(before) != len(after) or tuple(before) == tuple(after):
            return
        for old, new in zip(map(origin_in, before), map(origin_in, after), strict=True):
            if old is not None and new is not None:
                for key in _keys(old):
                    self._after.setdefault(key, []).append(new)

    def origin(self, name: str) -> Origin | None:
        """Return the operation of the graph after that a name stands for; None where nothing is known of it.

        An operation that lowering made of another has the place of that, and is found by it.
        """
        named = origin_in(name)
        if named is None:
            return None
        found = next((self._after[key] for key in _keys(named) if key in self._after), None)
        if found is None:
            return None
        first = found[0]
        if any(other.place != first.place for other in found):
            self.ambiguous.add(first.place)
        return Origin(first.place, first.module, named.operator)

    def name(self, name: str) -> str:
        """Return a name with the place and the module of the graph after; as it is where nothing is known of it."""
        before, after = origin_in(name), self.origin(name)
        return name if before is None or after is None else _head(after) + name[len(_head(before)) :]

    def text(self, text: str) -> str:
        """Return HLO, or a message with names of HLO's operations, with its names replaced."""
        if not self._after:
            return text

        def replaced(match: re.Match[str]) -> str:
            return f'op_name="{escaped(self.name(unescaped(match[1])))}"'

        return OPERATION_NAME.sub(replaced, text)


def _head(origin: Origin) -> str:
    file, line = origin.place
    return f"{file}:{line}/{origin.module}" if origin.module else f"{file}:{line}"


def _keys(origin: Origin) -> Iterator[_Key]:
    """Yield what an operation is known by, from its whole name to its line."""
    yield *origin.place, origin.module, origin.operator
    yield *origin.place, origin.module
    yield origin.place
