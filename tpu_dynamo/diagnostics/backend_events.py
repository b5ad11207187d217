"""What this backend's own stages tell: times, operations refused, fallbacks, lookups in the cache."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .attempts import Attempts
from .model import CacheLookup, CacheMiss, Failure, Fallback, Place, Stage, UnsupportedOperation
from .source_locations import place

_RAISED = re.compile(r"^torch\._dynamo\.exc\.BackendCompilerFailed: backend=.* raised:\n", re.MULTILINE)
_KIND = re.compile(r"(\w+): ")
_CODE = re.compile(r"^  (TPU\d{3}): ", re.MULTILINE)
_END = re.compile(r"\n\nSet TORCHDYNAMO_VERBOSE|\n\nfrom user code:")
_PROBLEM = re.compile(
    r"^(?P<operation>\S.*?): (?P<why>[^\n]*(?:\n(?!  (?:at|try|TPU))[^\n]*)*?)"
    r"(?:\n  at (?P<file>.+?):(?P<line>\d+)(?: in (?P<function>\S+))?(?:\n    (?P<text>.*))?|\n  at .*)?"
    r"\n  try: (?P<hint>[^\n]*(?:\n  (?!TPU)[ ]?[^\n]*)*)",
    re.MULTILINE,
)
# Stages as the compile metrics of torch have them; ours are events.
_TIMES = {
    "dynamo": "dynamo_cumulative_compile_time_us",
    "aot_autograd": "aot_autograd_cumulative_compile_time_us",
    "inductor": "inductor_cumulative_compile_time_us",
}


def stages_of(compiled: Attempts) -> tuple[Stage, ...]:
    """The time in each stage of a compile: what each spent by itself, without the stages that it called."""
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
    return tuple(Stage(name, seconds) for name, seconds in spent.items() if seconds)


def unsupported_operations(compiles: Iterable[Attempts]) -> tuple[UnsupportedOperation, ...]:
    """The operations and inputs that the backend refused, each once."""
    found: dict[tuple[Any, ...], UnsupportedOperation] = {}
    counts: Counter[tuple[Any, ...]] = Counter()
    for compiled in compiles:
        refused = [problem for text in compiled.errors for problem in _refused(text)]
        for kind, data in compiled.events:
            if kind == "fallback" and isinstance(data, Mapping):
                refused += [_problem(problem) for problem in data.get("problems", ())]
        for problem in refused:
            key = (problem.operation, problem.why, problem.place and (problem.place.file, problem.place.line))
            found.setdefault(key, problem)
            counts[key] += 1
    return tuple(
        UnsupportedOperation(p.code, p.operation, p.why, p.hint, p.place, counts[key]) for key, p in found.items()
    )


def _backend_error(text: str) -> tuple[str, str] | None:
    """The kind and the message of an error of the backend's, from the record of it."""
    raised = list(_RAISED.finditer(text))
    if not raised:
        return None
    message = text[raised[-1].end() :]
    end = _END.search(message)
    message = message[: end.start()] if end else message
    kind = _KIND.match(message)
    return (kind.group(1), message[kind.end() :].rstrip()) if kind else None


def _refused(text: str) -> list[UnsupportedOperation]:
    error = _backend_error(text)
    if error is None or error[0] not in ("UnsupportedOp", "UnsupportedInput"):
        return []
    kind, message = error
    code = _CODE.search(message)
    number = code.group(1) if code else "TPU101"
    if kind == "UnsupportedInput":
        why, _, hint = message.partition("\n  try: ")
        return [UnsupportedOperation(number, why.split(" is ")[0], why, hint.split("\n  TPU")[0].strip(), None)]
    _, _, problems = message.partition("\n")
    return [
        UnsupportedOperation(number, m["operation"], m["why"], m["hint"], _place(m.groupdict()))
        for m in _PROBLEM.finditer(problems)
    ]


def _place(parts: Mapping[str, Any]) -> Place | None:
    if not parts.get("file"):
        return None
    return place(parts["file"], int(parts["line"]), parts.get("function") or "", (parts.get("text") or "").strip())


def _problem(data: Mapping[str, Any]) -> UnsupportedOperation:
    return UnsupportedOperation(
        str(data.get("code")), str(data.get("operation")), str(data.get("why")), str(data.get("hint")), _place(data)
    )


def failures_of(compiles: Iterable[Attempts]) -> tuple[Failure, ...]:
    """The compiles that ended in an error which was neither a break nor a refusal of ours."""
    found = []
    for compiled in compiles:
        if compiled.failed in (None, "Unsupported", "UserError") or any(map(_refused, compiled.errors)):
            continue
        error = next(filter(None, map(_backend_error, compiled.errors)), None)
        kind, message = error or (str(compiled.failed), str(compiled.metrics.get("fail_reason")))
        file, line = (compiled.metrics.get(f"fail_user_frame_{part}") for part in ("filename", "lineno"))
        found.append(Failure(compiled.id, kind, message, place(file, line) if file and line else None))
    return tuple(found)


def cache_lookups(
    compiles: Sequence[Attempts], hits: Mapping[str, int], misses: Mapping[str, int]
) -> tuple[CacheLookup, ...]:
    """Hits and misses by level, with the reasons of the misses.

    hits, misses: what `tpu_dynamo.stats()` counted during the run. Records of a cache that knows why it missed come
    in here: events `tpu_dynamo/event/cache` with `level`, `outcome` (`hit` or `miss`), `reason`, and `owner` and
    `summary` for a graph of which more is known.
    """
    counts: Counter[tuple[str, str]] = Counter()
    counts.update({(level, "hit"): count for level, count in hits.items()})
    counts.update({(level, "miss"): count for level, count in misses.items()})
    told: Counter[tuple[str, str]] = Counter()
    reasons: dict[tuple[str, str], dict[str, None]] = {}
    graphs: dict[tuple[str, str], dict[str, list[Mapping[str, Any]]]] = {}
    for compiled in compiles:
        for kind, data in compiled.events:
            if kind == "cache" and isinstance(data, Mapping) and data.get("outcome") in ("hit", "miss"):
                key = (str(data.get("level")), str(data["outcome"]))
                told[key] += 1
                if data.get("reason"):
                    reasons.setdefault(key, {})[str(data["reason"])] = None
                if data.get("summary"):
                    graphs.setdefault(key, {}).setdefault(str(data["summary"]), []).append(data)
    found = []
    for level, outcome in sorted({*counts, *told}):
        key = (level, outcome)
        count = max(counts[key], told[key])
        grouped = tuple(_miss(summary, alike) for summary, alike in graphs.get(key, {}).items())
        exact = tuple(reasons.get(key, ()))
        found.append(CacheLookup(level, "hit" if outcome == "hit" else "miss", count, exact, grouped))
    return tuple(found)


def _miss(summary: str, alike: Sequence[Mapping[str, Any]]) -> CacheMiss:
    owners, reasons = ([str(each.get(name, "")) for each in alike] for name in ("owner", "reason"))
    return CacheMiss(tuple(dict.fromkeys(owners)), summary, tuple(dict.fromkeys(reasons)))


def fallbacks_of(compiles: Iterable[Attempts], counted: Mapping[str, int]) -> tuple[Fallback, ...]:
    """Why graphs ran in eager: what `stats()` counted, or where it is another process's run, what was recorded."""
    if counted:
        return tuple(Fallback(reason, count) for reason, count in counted.items() if count)
    told: Counter[str] = Counter()
    for compiled in compiles:
        for kind, data in compiled.events:
            if kind == "fallback" and isinstance(data, Mapping):
                told.update(f"{p.get('operation')}: {p.get('why')}" for p in data.get("problems", ()))
    return tuple(Fallback(reason, count) for reason, count in told.items())
