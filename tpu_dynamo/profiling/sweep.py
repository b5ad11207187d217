"""Arithmetic on intervals of time: what a moment belongs to where intervals lie in, or beside, each other."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
# Later than any time. Times are whole nanoseconds: since the epoch there are more of them than a float can tell apart.
_EVER = 2**63


@dataclass(frozen=True)
class Interval(Generic[T]):
    """The time from `start` to `end`, and what it is about."""

    start: int
    end: int
    about: T

    @property
    def length(self) -> int:
        """The end minus the start."""
        return self.end - self.start


def innermost(lane: Iterable[Interval[T]]) -> list[Interval[T]]:
    """Cut intervals that contain each other into pieces that do not overlap: each moment is the innermost's.

    The pieces come in the order of time. What overlaps without being contained ends where its container does.
    """
    pieces: list[Interval[T]] = []
    open_ones: list[Interval[T]] = []
    at = -_EVER

    def close(until: int) -> None:
        nonlocal at
        while open_ones and open_ones[-1].end <= until:
            done = open_ones.pop()
            if done.end > at:
                pieces.append(Interval(at, done.end, done.about))
                at = done.end

    for each in sorted(lane, key=lambda each: (each.start, -each.end)):
        close(each.start)
        if open_ones:
            if each.start > at:
                pieces.append(Interval(at, each.start, open_ones[-1].about))
            each = Interval(each.start, min(each.end, open_ones[-1].end), each.about)
        at = max(at, each.start)
        open_ones.append(each)
    close(_EVER)
    return pieces


def longest(times: Mapping[K, float], most: int | None = None) -> list[tuple[K, float]]:
    """Return what time was spent on, the longest first, and `most` of these."""
    return sorted(times.items(), key=lambda found: -found[1])[:most]


@dataclass
class Shares(Generic[K]):
    """Time by what it was spent on. busy: the stretches in which anything was."""

    times: defaultdict[K, float]
    busy: list[Interval[None]]


def share(lanes: Iterable[Sequence[Interval[K]]]) -> Shares[K]:
    """Split time among what happens in lanes beside each other: a moment with n of them is each one's to an n-th.

    lanes: each without overlaps and in the order of time. The times add up to that of the moments in which anything
    happens.
    """
    times: defaultdict[K, float] = defaultdict(float)
    busy: list[Interval[None]] = []
    ends: list[tuple[int, int, K]] = []
    at = 0

    def advance(until: int) -> None:
        nonlocal at
        while ends and at < until:
            reached = min(ends[0][0], until)
            if reached > at:
                part = (reached - at) / len(ends)
                for _, _, about in ends:
                    times[about] += part
                if busy and busy[-1].end == at:
                    busy[-1] = Interval(busy[-1].start, reached, None)
                else:
                    busy.append(Interval(at, reached, None))
                at = reached
            while ends and ends[0][0] <= at:
                heapq.heappop(ends)
        at = max(at, until)

    for number, piece in enumerate(heapq.merge(*lanes, key=lambda piece: piece.start)):
        advance(piece.start)
        heapq.heappush(ends, (piece.end, number, piece.about))
    advance(_EVER)
    return Shares(times, busy)


def layered(begin: int, end: int, layers: Sequence[Iterable[Interval[T]]]) -> Iterator[Interval[T | None]]:
    """Yield what each moment from `begin` to `end` belongs to: an interval of the first layer that has one there.

    Of several in a layer the one that began last counts; None stands for moments with no interval at all.
    """
    starts = [
        (max(each.start, begin), layer, each)
        for layer, intervals in enumerate(layers)
        for each in intervals
        if each.end > begin and each.start < end
    ]
    starts.sort(key=lambda found: (found[0], found[2].start, -found[2].end))
    open_ones: dict[int, list[Interval[T]]] = defaultdict(list)
    moments = sorted({begin, end, *(s[0] for s in starts), *(min(s[2].end, end) for s in starts)})
    following = 0
    for at, until in pairwise(moments):
        while following < len(starts) and starts[following][0] <= at:
            open_ones[starts[following][1]].append(starts[following][2])
            following += 1
        found: T | None = None
        for layer in range(len(layers)):
            intervals = open_ones[layer]
            while intervals and intervals[-1].end <= at:
                intervals.pop()
            if intervals:
                alive = [each for each in intervals if each.end > at]
                open_ones[layer] = alive
                found = alive[-1].about
                break
        yield Interval(at, until, found)
