"""The calls that `options={"check": N}` compared with eager operators, and what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from .attempts import Attempts
from .model import CheckedCalls
from .source_locations import source_span


def checked_calls(compiles: Iterable[Attempts]) -> tuple[CheckedCalls, ...]:
    """Return the checked calls of each graph by verdict, those of wrong results first.

    They are in events `tpu_dynamo/event/checks`, which have the graph `described`, the `verdict`, and what is at fault.
    """
    calls: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], Mapping[str, Any]] = {}
    for compiled in compiles:
        for kind, data in compiled.events:
            if kind == "checks" and isinstance(data, Mapping):
                key = str(data.get("described")), str(data.get("verdict"))
                calls[key] += 1
                first.setdefault(key, data)
    found = [_of_verdict(*key, count, first[key]) for key, count in calls.items()]
    return tuple(sorted(found, key=lambda each: each.verdict != "wrong"))


def _of_verdict(graph: str, verdict: str, calls: int, data: Mapping[str, Any]) -> CheckedCalls:
    fault = data.get("fault") or {}
    line = fault.get("line") or {}
    file, number = line.get("file"), line.get("line")
    place = None
    if isinstance(file, str) and isinstance(number, int):
        place = source_span(file, number, str(line.get("function") or ""))
    return CheckedCalls(
        graph=graph,
        verdict=verdict,
        calls=calls,
        operators=tuple(map(str, fault.get("operators", ()))),
        why=str(data.get("why") or ""),
        place=place,
    )
