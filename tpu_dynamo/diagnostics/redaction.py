"""Takes the user's code, names and paths out of a report, so that it can be shared."""

from __future__ import annotations

import re
from dataclasses import replace

from ._torch_compat import registered_break
from .model import (
    Advice,
    Break,
    BucketUse,
    CheckedCalls,
    FailedGuard,
    FrameCompile,
    Quantity,
    Recompile,
    Report,
    ReportedRun,
    SkippedFrame,
    SourceSpan,
)

_INSTALLED = re.compile(r".*[/\\](?:site|dist)-packages[/\\]")


class Redaction:
    """Stand-ins for names; equal names have equal stand-ins."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}

    def name(self, kind: str, text: str) -> str:
        """Return the stand-in for a name of this kind, as `function1`."""
        number = sum(k == kind for k, _ in self._names) + 1
        return self._names.setdefault((kind, text), f"{kind}{number}") if text else text

    def file(self, path: str, own: bool) -> str:
        """Return the path of a library's file from its package on; for a file of the user's (`own`) a stand-in."""
        return self.name("file", path) + ".py" if own else _INSTALLED.sub("", path)

    def place(self, found: SourceSpan) -> SourceSpan:
        """Return the place with its line and columns, and without the names and the text if the file is the user's."""
        own = found.origin == "own"
        file = self.file(found.file, own)
        if not own:
            return replace(found, file=file)
        return replace(found, file=file, function=self.name("function", found.function), text="", mark=None)


def redact(report: Report) -> Report:
    """Return the report's kinds, codes, lines, counts and times, without the user's code, names, paths and values."""
    names = Redaction()
    return replace(
        report,
        run=ReportedRun(
            source="redacted", versions=report.run.versions, ranks=report.run.ranks, processes=report.run.processes,
            seconds=report.run.seconds, records=report.run.records, unknown_records=report.run.unknown_records,
            damaged=report.run.damaged,
        ),
        breaks=tuple(_break(b, names) for b in report.breaks),
        recompiles=tuple(_recompile(r, names) for r in report.recompiles),
        unsupported=tuple(replace(u, place=names.place(u.place) if u.place else None) for u in report.unsupported),
        skipped=tuple(_skipped(s, names) for s in report.skipped),
        failures=tuple(
            replace(f, message="", place=names.place(f.place) if f.place else None) for f in report.failures
        ),
        # Their words name inputs, functions and lines.
        cache=tuple(replace(level, reasons=(), misses=()) for level in report.cache),
        buckets=tuple(_bucket_use(use, names) for use in report.buckets),
        not_padded=tuple(replace(u, place=names.place(u.place) if u.place else None) for u in report.not_padded),
        checks=tuple(_checked(c, names) for c in report.checks),
        compiles=tuple(_compile(c, names) for c in report.compiles),
    )  # fmt: skip


def _break(found: Break, names: Redaction) -> Break:
    known = registered_break(found.code)
    return replace(
        found,
        place=names.place(found.place),
        own_place=names.place(found.own_place) if found.own_place else None,
        excerpt=None,
        stack=tuple(map(names.place, found.stack)),
        gb_type=found.gb_type if known else "a kind that torch's registry does not know",
        # The registry's words for this kind hold no names of the user's; those of the message do.
        explanation=known.explanation if known else "",
        hints=known.hints if known else (),
        context="",
        cost=replace(found.cost, bytes_crossing=_unnamed(found.cost.bytes_crossing)),
    )


def _unnamed(figure: Quantity | None) -> Quantity | None:
    return replace(figure, basis="each call, if all of it moves") if figure else None


def _recompile(found: Recompile, names: Redaction) -> Recompile:
    source = names.name("value", found.source or "") or None
    return replace(
        found,
        function=names.name("function", found.function),
        place=names.place(found.place),
        excerpt=None,
        source=source,
        values=(),
        guards=tuple(_guard(g, names) for g in found.guards),
        advice=Advice(f"a guard of kind {found.kind} fails", f"see tpu-dynamo explain {found.code}"),
    )


def _guard(found: FailedGuard, names: Redaction) -> FailedGuard:
    source = names.name("value", found.source or "") or None
    return FailedGuard(f"{found.kind} of {source}", found.kind, source, found.dimension, entry=found.entry)


def _skipped(found: SkippedFrame, names: Redaction) -> SkippedFrame:
    return replace(found, function=names.name("function", found.function), file=names.file(found.file, True))


def _bucket_use(found: BucketUse, names: Redaction) -> BucketUse:
    function, dimension = names.name("function", found.function), names.name("value", found.dimension)
    return replace(found, function=function, dimension=dimension, line=found.line.replace(found.dimension, dimension))


def _checked(found: CheckedCalls, names: Redaction) -> CheckedCalls:
    place = names.place(found.place) if found.place else None
    return replace(found, graph=names.name("graph", found.graph), why="", place=place)


def _compile(found: FrameCompile, names: Redaction) -> FrameCompile:
    return replace(found, function=names.name("function", found.function), file=names.file(found.file, True))
