"""Builds the report from the records of a trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .attempts import Attempts, gather
from .backend_events import cache_lookups, failures_of, fallbacks_of, stages_of, unsupported_operations
from .breaks import Cut, breaks_of, find_cuts, fingerprints
from .checked_calls import checked_calls
from .costs import seconds_of
from .messages import parse_message
from .model import FrameCompile, OperatorCalls, Report, ReportedRun, SkippedFrame, Unrecorded
from .padded_calls import bucket_uses
from .recompiles import find_recompiles
from .trace_files import Trace


@dataclass(frozen=True)
class RunCounts:
    """Counts over a run, which only the process that ran it has.

    breaks: Dynamo's, by message. hits, misses, fallbacks, operator_calls: as in `tpu_dynamo.stats()`. operator_costs:
    the bytes and the seconds of these calls. padded: the sets of sizes that programs of buckets served, by key, with
    their calls.
    """

    breaks: Mapping[str, int] = field(default_factory=dict)
    hits: Mapping[str, int] = field(default_factory=dict)
    misses: Mapping[str, int] = field(default_factory=dict)
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    operator_calls: Mapping[str, int] = field(default_factory=dict)
    operator_costs: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    padded: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def build_report(trace: Trace, run: ReportedRun, recompile_limit: int, counted: RunCounts | None = None) -> Report:
    """Return the report on a trace. counted: for a run of this process alone."""
    counted = counted or RunCounts()
    compiles = gather(trace.records)
    cuts = find_cuts(compiles)
    marks = fingerprints(cuts)
    causes = {id(compiled): marks[id(cut)] for cut in cuts for compiled in cut.behind}
    several = len({compiled.process for compiled in compiles}) > 1
    return Report(
        run=run,
        breaks=breaks_of(cuts, compiles),
        recompiles=find_recompiles(compiles, recompile_limit),
        unsupported=unsupported_operations(compiles),
        skipped=tuple(_skipped(compiles)),
        failures=failures_of(compiles),
        cache=cache_lookups(compiles, counted.hits, counted.misses),
        fallbacks=fallbacks_of(compiles, counted.fallbacks),
        operator_calls=tuple(
            OperatorCalls(name, calls, *counted.operator_costs[name]) for name, calls in counted.operator_calls.items()
        ),
        buckets=bucket_uses(compiles, counted.padded),
        not_padded=unsupported_operations(compiles, ("not padded",)),
        checks=checked_calls(compiles),
        unrecorded=tuple(_unrecorded(cuts, counted.breaks)),
        compiles=tuple(_compile(c, causes.get(id(c)), several) for c in compiles if c.id != "-"),
    )


def _compile(compiled: Attempts, cause: str | None, several: bool) -> FrameCompile:
    metrics = compiled.metrics
    return FrameCompile(
        id=f"{compiled.process}:{compiled.id}" if several else compiled.id,
        function=compiled.function,
        file=compiled.file,
        line=metrics.get("co_firstlineno") or 0,
        rank=compiled.rank,
        resumes=compiled.resumes,
        recompile=bool(compiled.reasons),
        outcome=_outcome(compiled),
        graphs=compiled.graphs,
        operations=metrics.get("graph_op_count") or 0,
        guards=metrics.get("guard_count") or 0,
        started=metrics.get("start_time") or 0.0,
        seconds=seconds_of(compiled),
        stages=stages_of(compiled),
        caused_by=cause,
    )


def _outcome(compiled: Attempts) -> Literal["compiled", "empty", "skipped", "failed", "unfinished"]:
    if not compiled.metrics:
        return "unfinished"
    if compiled.failed:
        return "skipped" if compiled.failed in ("Unsupported", "UserError") else "failed"
    return "compiled" if compiled.graphs else "empty"


def _skipped(compiles: Iterable[Attempts]) -> Iterable[SkippedFrame]:
    for compiled in compiles:
        if not compiled.metrics or compiled.failed not in (None, "Unsupported", "UserError"):
            continue
        if compiled.failed:
            first, _ = parse_message(compiled.metrics.get("fail_reason") or "")
            why = f"a graph break behind which tracing could not go on: {first.gb_type}"
        elif not compiled.metrics.get("has_guarded_code"):
            why = "nothing in it to compile"
        else:
            continue
        line = compiled.metrics.get("co_firstlineno") or 0
        yield SkippedFrame(compiled.id, compiled.function, compiled.file, line, why)


def _unrecorded(cuts: Sequence[Cut], counted: Mapping[str, int]) -> Iterable[Unrecorded]:
    """Return the kinds of breaks that Dynamo counted without a record, as for frames that it did not trace at all."""
    recorded = {cut.message.first.gb_type for cut in cuts}
    missing: Counter[str] = Counter()
    for message, count in counted.items():
        gb_type = parse_message(message)[0].gb_type
        if gb_type not in recorded and count > 0:
            missing[gb_type] += count
    return [Unrecorded(gb_type, count) for gb_type, count in sorted(missing.items())]
