"""The option `buckets`: to which sizes changing dimensions are padded."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_DIMENSION = re.compile(r"L\['(?P<name>\w+)'\]\.size\(\)\[(?P<dim>\d+)\]")
_INTEGER = re.compile(r"L\['(?P<name>\w+)'\]")


@dataclass(frozen=True)
class Buckets:
    """The sizes to which one dimension is padded.

    powers: every power of two. multiple: every multiple of this number. sizes: these, ascending; what is larger than
    the last has no bucket.
    """

    powers: bool = False
    multiple: int = 0
    sizes: tuple[int, ...] = ()

    def of(self, size: int, largest: int | None = None) -> int:
        """Return the smallest bucket that holds `size`, not above `largest`; `size` itself where there is none."""
        if self.powers:
            found = 1 << max(size - 1, 0).bit_length()
        elif self.multiple:
            found = -(-size // self.multiple) * self.multiple
        else:
            place = bisect_left(self.sizes, size)
            found = self.sizes[place] if place < len(self.sizes) else size
        return found if largest is None else max(min(found, largest), size)

    def between(self, smallest: int, largest: int) -> list[int]:
        """Return the buckets of the sizes from `smallest` to `largest`, ascending."""
        found: list[int] = []
        while smallest <= largest:
            found.append(self.of(smallest, largest))
            smallest = found[-1] + 1
        return found

    def known(self, smallest: int, largest: int | None, size: int) -> list[int]:
        """Return the buckets of which it is known that they may be asked for, besides `size` where there is one.

        Without a `largest` that is, of powers and multiples, the next after `size`.
        """
        if self.sizes:
            within = (bucket for bucket in self.sizes if bucket >= smallest)
            return list(within) if largest is None else sorted({min(bucket, largest) for bucket in within})
        return [size, self.of(size + 1)] if largest is None else self.between(smallest, largest)

    def __str__(self) -> str:
        if self.powers:
            return "pow2"
        return f"multiple {self.multiple}" if self.multiple else ",".join(map(str, self.sizes))


# Buckets by dimension, as `("tokens[1]", Buckets(...))`; "" stands for all dimensions that have no entry.
BucketTable = tuple[tuple[str, Buckets], ...]


def parse_buckets(given: Any) -> BucketTable:
    """Return the option as a table. Raises ValueError for what is no bucket.

    given: `"pow2"`, `{"multiple": 128}`, a list of sizes, or such values by dimension: `{"tokens[1]": "pow2"}`.
    """
    if isinstance(given, tuple) and all(isinstance(entry, tuple) and len(entry) == 2 for entry in given):
        return given
    if isinstance(given, Mapping) and set(given) != {"multiple"}:
        return tuple(sorted((_dimension(name), _buckets(value)) for name, value in given.items()))
    return (("", _buckets(given)),)


def _dimension(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise ValueError(f"{name!r} names no dimension: write it as 'tokens[1]', or 'count' for an integer")
    return name


def _buckets(given: Any) -> Buckets:
    if given == "pow2":
        return Buckets(powers=True)
    if isinstance(given, Mapping) and set(given) == {"multiple"} and _is_size(given["multiple"]):
        return Buckets(multiple=given["multiple"])
    if isinstance(given, Sequence) and not isinstance(given, str) and given and all(map(_is_size, given)):
        return Buckets(sizes=tuple(sorted(set(given))))
    raise ValueError(f'{given!r} is none of "pow2", {{"multiple": 128}} and a list of sizes, [64, 128, 256]')


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def buckets_of(table: BucketTable, source: str) -> Buckets | None:
    """Return the buckets of a dimension by Dynamo's expression for it, `L['tokens'].size()[1]`; None if it has none."""
    entries = dict(table)
    return entries.get(source) or entries.get(short_name(source)) or entries.get("")


def short_name(source: str) -> str:
    """Return Dynamo's expression for a dimension or an integer as the user would write it: `tokens[1]`, `count`."""
    if (found := _DIMENSION.fullmatch(source)) is not None:
        return f"{found['name']}[{found['dim']}]"
    found = _INTEGER.fullmatch(source)
    return found["name"] if found is not None else source
