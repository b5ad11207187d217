"""The report in one sentence, and the changes to make in the order of what they save."""

from __future__ import annotations

from dataclasses import dataclass

from tpu_dynamo.formatting import format_count, format_duration, format_relative_path

from .model import Advice, Break, Excerpt, Recompile, Report, SourceSpan, UnsupportedOperation


@dataclass(frozen=True)
class Change:
    """One thing to change: a break or a cause of recompiles, what that saves, and the advice.

    seconds: the compile time that it saves, for breaks an estimate. met: how often it was met. caused: it follows from
    an earlier one and may go away with that.
    """

    mark: str
    what: str
    code: str
    title: str
    place: SourceSpan
    own_place: SourceSpan | None
    excerpt: Excerpt | None
    advice: Advice | None
    seconds: float
    graphs: int
    met: int
    caused: bool


@dataclass(frozen=True)
class Totals:
    """The numbers of a run; `lost` is the compile time that would go with breaks and recompiles, an estimate."""

    graphs: int
    breaks: int
    recompiles: int
    unsupported: int
    seconds: float
    lost: float


def totals(report: Report) -> Totals:
    """Return the numbers of a run."""
    again = {c.id for c in report.compiles if c.recompile}
    lost = sum(c.seconds for c in report.compiles if c.recompile)
    lost += sum(b.cost.saving.value for b in report.breaks)
    seconds = sum(c.seconds for c in report.compiles)
    return Totals(
        graphs=sum(c.graphs for c in report.compiles),
        breaks=len(report.breaks),
        recompiles=len(again),
        unsupported=len(report.unsupported),
        seconds=seconds,
        lost=min(lost, seconds),
    )


def sentence(report: Report) -> str:
    """Summarise a run in one sentence."""
    sums = totals(report)
    if not report.compiles:
        return "Nothing was compiled."
    graphs = format_count(sums.graphs, "graph")
    if not (sums.breaks or sums.recompiles):
        clean = f"{graphs}, no graph break, no recompile: {format_duration(sums.seconds)} of compile time."
        return clean if not sums.unsupported else f"{clean} {_unsupported(sums.unsupported)}"
    parts = []
    if sums.breaks:
        parts.append(format_count(sums.breaks, "graph break"))
    if sums.recompiles:
        parts.append(format_count(sums.recompiles, "recompile"))
    times = f"about {format_duration(sums.lost)} of {format_duration(sums.seconds)} compile time would go with them"
    summary = f"{' and '.join(parts)}, {graphs}: {times}."
    return summary if not sums.unsupported else f"{summary} {_unsupported(sums.unsupported)}"


def _unsupported(count: int) -> str:
    return f"{format_count(count, 'operation')} cannot be lowered."


def changes(report: Report) -> list[Change]:
    """Return the changes to make, first those that save the most time; those that follow from another come last."""
    found = [_of_break(b) for b in report.breaks] + [_of_recompile(r) for r in report.recompiles]
    return sorted(found, key=lambda change: (change.caused, -change.seconds, -change.graphs))


def _of_break(found: Break) -> Change:
    title = found.advice.title if found.advice else found.gb_type
    return Change(
        found.fingerprint, "break", found.code, title, found.place, found.own_place, found.excerpt, found.advice,
        found.cost.saving.value, int(found.cost.extra_graphs.value), found.met, found.kind == "caused",
    )  # fmt: skip


def _of_recompile(found: Recompile) -> Change:
    count = len(found.compiles)
    return Change(
        found.fingerprint, "recompile", found.code, found.advice.title, found.place, None, found.excerpt,
        found.advice, found.compile_time.value, count, count, False,
    )  # fmt: skip


def format_location_of(found: UnsupportedOperation) -> str:
    """Return the location of an operation, as format_location does, or words for an unknown one."""
    return format_location(found.place) if found.place else "a line that the trace does not know"


def format_location(found: SourceSpan) -> str:
    """Return a place as `train.py:12:5`, relative to the current folder if it is below it."""
    return f"{format_relative_path(found.file)}:{found.line}" + (f":{found.column}" if found.column else "")
