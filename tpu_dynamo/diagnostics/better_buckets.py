"""The buckets that would have padded the least for the sizes that were seen."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

# More sizes than this are taken in groups, each as its largest.
_MOST_SIZES = 256


def best_buckets(calls: Mapping[int, int], count: int) -> tuple[int, ...]:
    """Return at most `count` sizes, ascending, that pad the calls the least. calls: by size, at least one.

    Dynamic programming over the sizes: the best with one bucket more ends at some size and begins after an earlier one.
    """
    grouped = _grouped(calls)
    sizes = sorted(grouped)
    before = [0, *accumulate(grouped[size] for size in sizes)]
    # By how many of the sizes are served: elements along the dimension, and the buckets.
    best: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    best += [(size * before[i + 1], (size,)) for i, size in enumerate(sizes)]
    for _ in range(min(count, len(sizes)) - 1):
        best = [
            best[0],
            *(
                min((best[j][0] + size * (before[i + 1] - before[j]), (*best[j][1], size)) for j in range(i + 1))
                for i, size in enumerate(sizes)
            ),
        ]
    return best[-1][1]


def padding_share(calls: Mapping[int, int], buckets: tuple[int, ...]) -> float:
    """Return the share of a dimension's elements that are padding with these buckets, from 0 to 1."""
    padded = sum(min((b for b in buckets if b >= size), default=size) * count for size, count in calls.items())
    return 1 - sum(size * count for size, count in calls.items()) / padded if padded else 0.0


def _grouped(calls: Mapping[int, int]) -> dict[int, int]:
    sizes = sorted(calls)
    step = -(-len(sizes) // _MOST_SIZES)
    groups = [sizes[i : i + step] for i in range(0, len(sizes), step)]
    return {group[-1]: sum(calls[size] for size in group) for group in groups}
