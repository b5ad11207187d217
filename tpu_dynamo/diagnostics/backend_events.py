"""Events that this backend writes into the trace: times, refused operations, fallbacks, cache lookups."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .attempts import Attempts
from .model import CacheLookup, CacheMiss, Failure, Fallback, StageTime, UnsupportedOperation
from .source_locations import source_span

# As torch words a BackendCompilerFailed.
_BACKEND_ERROR = re.compile(r"backend=.*? raised:\n(?P<kind>\w+): (?P<message>.*)", re.DOTALL)
# Events in which the backend names what it refuses: an error ended the graph, or it runs in eager PyTorch.
_REFUSALS = ("unsupported", "fallback")
# Stages as the compile metrics of torch have them; ours are events.
_TIMES = {
    "dynamo": "dynamo_cumulative_compile_time_us",
    "aot_autograd": "aot_autograd_cumulative_compile_time_us",
    "inductor": "inductor_cumulative_compile_time_us",
}


def stages_of(compiled: Attempts) -> tuple[StageTime, ...]:
    """Return the seconds of each stage of a compile, without those of the stages that it called."""
    spent = {name: (compiled.metrics.get(field) or 0) / 1e6 for name, field in _TIMES.items()}
    ours: Counter[str] = Counter()
    for kind, data in compiled.events:
        if kind == "stages" and isinstance(data, Mapping):
            ours.update({str(name): float(seconds) for name, seconds in data.get("seconds", {}).items()})
    inner = spent["aot_autograd"]
    spent["dynamo"] = max(0.0, spent["dynamo"] - inner)
    spent["aot_autograd"] = max(0.0, inner - spent["inductor"] - sum(ours.values()))
    spent |= ours
    spent["backward"] = sum((metrics.get("duration_us") or 0) / 1e6 for metrics in compiled.backward)
    return tuple(StageTime(name, seconds) for name, seconds in spent.items() if seconds)


def unsupported_operations(
    compiles: Iterable[Attempts], kinds: Sequence[str] = _REFUSALS
) -> tuple[UnsupportedOperation, ...]:
    """Return the operations and inputs that events of these kinds name, each once with its count."""
    found: dict[tuple[Any, ...], UnsupportedOperation] = {}
    counts: Counter[tuple[Any, ...]] = Counter()
    for compiled in compiles:
        for problem in map(_unsupported_operation, _problems(compiled, kinds)):
            key = (problem.operation, problem.why, problem.place and (problem.place.file, problem.place.line))
            found.setdefault(key, problem)
            counts[key] += 1
    return tuple(
        UnsupportedOperation(p.code, p.operation, p.why, p.hint, p.place, counts[key]) for key, p in found.items()
    )


def _problems(compiled: Attempts, kinds: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Yield the refusals, as `Unsupported.as_dict()` has them, of a compile's events of these kinds."""
    for kind, data in compiled.events:
        if kind in kinds and isinstance(data, Mapping):
            yield from (problem for problem in data.get("problems", ()) if isinstance(problem, Mapping))


def _unsupported_operation(problem: Mapping[str, Any]) -> UnsupportedOperation:
    code, operation, why, hint = (str(problem.get(name)) for name in ("code", "operation", "why", "hint"))
    file, line = problem.get("file"), problem.get("line")
    text = str(problem.get("text") or "").strip()
    where = (
        source_span(str(file), line, str(problem.get("function") or ""), text)
        if file and isinstance(line, int)
        else None
    )
    return UnsupportedOperation(code, operation, why, hint, where)


def failures_of(compiles: Iterable[Attempts]) -> tuple[Failure, ...]:
    """Return the compiles that failed for another reason than a break or a refusal of this backend."""
    found = []
    for compiled in compiles:
        if compiled.failed in (None, "Unsupported", "UserError") or any(_problems(compiled, ("unsupported",))):
            continue
        kind, message = compiled.failed, str(compiled.metrics.get("fail_reason"))
        if error := _BACKEND_ERROR.fullmatch(message):
            kind, message = error["kind"], error["message"]
        file, line = (compiled.metrics.get(f"fail_user_frame_{part}") for part in ("filename", "lineno"))
        found.append(Failure(compiled.id, kind, message, source_span(file, line) if file and line else None))
    return tuple(found)


def cache_lookups(
    compiles: Sequence[Attempts], hits: Mapping[str, int], misses: Mapping[str, int]
) -> tuple[CacheLookup, ...]:
    """Return hits and misses by level of the cache, with the reasons of the misses.

    hits, misses: what `tpu_dynamo.stats()` counted during the run. The reasons are in events `tpu_dynamo/event/cache`,
    which have `level`, `outcome` (`hit` or `miss`) and `reason`, and for a graph its `owner` and a `summary`.
    """
    counts: Counter[tuple[str, str]] = Counter()
    counts.update({(level, "hit"): count for level, count in hits.items()})
    counts.update({(level, "miss"): count for level, count in misses.items()})
    recorded: Counter[tuple[str, str]] = Counter()
    reasons: dict[tuple[str, str], dict[str, None]] = {}
    graphs: dict[tuple[str, str], dict[str, list[Mapping[str, Any]]]] = {}
    for compiled in compiles:
        for kind, data in compiled.events:
            if kind == "cache" and isinstance(data, Mapping) and data.get("outcome") in ("hit", "miss"):
                key = (str(data.get("level")), str(data["outcome"]))
                recorded[key] += 1
                if data.get("reason"):
                    reasons.setdefault(key, {})[str(data["reason"])] = None
                if data.get("summary"):
                    graphs.setdefault(key, {}).setdefault(str(data["summary"]), []).append(data)
    found = []
    for level, outcome in sorted({*counts, *recorded}):
        key = (level, outcome)
        count = max(counts[key], recorded[key])
        grouped = tuple(_miss(summary, alike) for summary, alike in graphs.get(key, {}).items())
        exact = tuple(reasons.get(key, ()))
        found.append(CacheLookup(level, "hit" if outcome == "hit" else "miss", count, exact, grouped))
    return tuple(found)


def _miss(summary: str, alike: Sequence[Mapping[str, Any]]) -> CacheMiss:
    owners, reasons = ([str(each.get(name, "")) for each in alike] for name in ("owner", "reason"))
    return CacheMiss(tuple(dict.fromkeys(owners)), summary, tuple(dict.fromkeys(reasons)))


def fallbacks_of(compiles: Iterable[Attempts], counted: Mapping[str, int]) -> tuple[Fallback, ...]:
    """Return why graphs ran in eager PyTorch, and how many.

    counted: what `tpu_dynamo.stats()` counted during the run; empty for a run of another process, whose events count.
    """
    if counted:
        return tuple(Fallback(reason, count) for reason, count in counted.items() if count)
    recorded: Counter[str] = Counter()
    for compiled in compiles:
        recorded.update(f"{p.get('operation')}: {p.get('why')}" for p in _problems(compiled, ("fallback",)))
    return tuple(Fallback(reason, count) for reason, count in recorded.items())
