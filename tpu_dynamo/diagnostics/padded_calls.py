"""The calls that programs of buckets served: which sizes came, how much was padding, and which buckets fit better."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from tpu_dynamo.buckets import short_name

from .attempts import Attempts
from .better_buckets import best_buckets, padding_share
from .model import BucketUse, SizeCalls

# By how much less of a dimension must be padding for other buckets to be worth a line.
_WORTH = 0.02

Event = Mapping[str, Any]


def bucket_uses(compiles: Iterable[Attempts], counted: Mapping[str, Event]) -> tuple[BucketUse, ...]:
    """Return each padded dimension of each function, with its sizes.

    counted: what this process counted; empty for a run of another process, whose latest events tell its calls, to a
    factor of two. A backward graph's calls are those of its forward graph, and are left out.
    """
    seen: dict[str, Event] = dict(counted)
    for compiled in compiles if not counted else ():
        for kind, data in compiled.events:
            if kind == "padded calls" and isinstance(data, Mapping):
                seen[f"{compiled.process} {data['key']}"] = data
    by_function: dict[str, list[Event]] = defaultdict(list)
    for data in seen.values():
        if data["role"] == "backward":
            continue
        by_function[str(data["function"])].append(data)
    return tuple(use for function, events in by_function.items() for use in _of_function(function, events))


def _of_function(function: str, events: list[Event]) -> Iterable[BucketUse]:
    true, padded = (sum(int(e[name]) * int(e["calls"]) for e in events) for name in ("elements", "padded_elements"))
    for dimension in dict.fromkeys(name for event in events for name in event["bucket"]):
        calls: Counter[int] = Counter()
        taken: dict[int, int] = {}
        for event in events:
            if dimension in event["bucket"]:
                size = int(event["sizes"][dimension])
                calls[size] += int(event["calls"])
                taken[size] = int(event["bucket"][dimension])
        used = tuple(sorted(set(taken.values())))
        better = best_buckets(calls, len(used))
        now, then = padding_share(calls, used), padding_share(calls, better)
        name = short_name(dimension)
        worth = then < now - _WORTH
        yield BucketUse(
            function=function,
            dimension=name,
            buckets=used,
            sizes=tuple(SizeCalls(size, calls[size], taken[size]) for size in sorted(calls)),
            padding=now,
            elements=true,
            padded_elements=padded,
            better=better if worth else (),
            better_padding=then if worth else None,
            line=f'options={{"buckets": {{"{name}": {list(better)}}}}}' if worth else "",
        )
