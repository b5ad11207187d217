"""Breaks: each place where a frame was cut, once, with its kind and the earlier break that it follows from."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from ._torch_compat import break_code, break_page
from .advice import advice_for
from .attempts import Attempts, MetBreak
from .costs import cost_of, least_seconds
from .messages import BreakMessage, BreakText, parse_message
from .model import Break, BreakKind, BreakOutcome, SourceSpan
from .source_locations import excerpt, innermost, source_span

# What torch._dynamo.graph_break_hints has its messages end with.
_FUNDAMENTAL = "This graph break is fundamental"
_SUPPORTABLE = ("It may be possible to write Dynamo tracing rules", "This is likely to be a Dynamo bug")
_WORSE: tuple[BreakOutcome, ...] = ("resumed", "partial", "skipped")
_CAUSED = "This graph break may have been caused by an earlier graph break"


@dataclass
class Cut:
    """One break: its message, the compiles that met it (`occurrences`) and those that it caused (`behind`)."""

    message: BreakMessage
    place: SourceSpan
    occurrences: list[tuple[Attempts, MetBreak]] = field(default_factory=list)
    outcome: BreakOutcome = "resumed"
    behind: list[Attempts] = field(default_factory=list)
    earlier: Cut | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """The kind of break and its location: breaks that agree in both are one."""
        return self.message.first.gb_type, self.place.file, self.place.line, self.place.column


def find_cuts(compiles: Sequence[Attempts]) -> list[Cut]:
    """Return the breaks of a trace, each once, although several calls, recompiles and ranks meet the same break."""
    cuts: dict[tuple[object, ...], Cut] = {}
    for compiled in compiles:
        for met in compiled.met or _unrecorded(compiled, compiles):
            where = innermost(met.message.stack)
            if where is None:
                where = source_span(compiled.file, compiled.metrics.get("co_firstlineno") or 0, compiled.function)
            cut = Cut(met.message, where)
            cut = cuts.setdefault(cut.key, cut)
            _add_occurrence(cut, compiled, met)
    found = list(cuts.values())
    _link(found)
    _attribute(found, compiles)
    return found


def _add_occurrence(cut: Cut, compiled: Attempts, met: MetBreak) -> None:
    # Dynamo first tries to go on behind a break; where it cannot, it says the same of the same place again.
    cut.outcome = _WORSE[max(_WORSE.index(cut.outcome), _WORSE.index(met.message.outcome))]
    if met.message.then and not cut.message.then:
        cut.message = replace(cut.message, then=met.message.then)
    if all(seen is not compiled or before.attempt != met.attempt for seen, before in cut.occurrences):
        cut.occurrences.append((compiled, met))


def _unrecorded(compiled: Attempts, compiles: Sequence[Attempts]) -> list[MetBreak]:
    """Return the break of a compile that only its metrics record, as at the limit of recompiles; else nothing."""
    if compiled.failed != "Unsupported":
        return []
    first, then = parse_message(compiled.metrics.get("fail_reason") or "")
    same = next(
        (c for c in compiles if (c.process, c.frame) == (compiled.process, compiled.frame) and c.name), compiled
    )
    file = compiled.metrics.get("fail_user_frame_filename") or same.file
    line = compiled.metrics.get("fail_user_frame_lineno") or same.metrics.get("co_firstlineno") or 0
    where = source_span(file, line, same.function)
    return [MetBreak(BreakMessage(first, then, (where,) if file else (), "skipped"), 0)]


def _link(cuts: Iterable[Cut]) -> None:
    """Find for each break the earlier one that it follows from.

    A break follows from an earlier one on the same call, the value of which the earlier break lost; or from an earlier
    one in the same statement, if Dynamo met it only in a later attempt, behind the earlier one.
    """
    before: list[Cut] = []
    for cut in cuts:
        for other in before:
            if _follows(cut, other):
                cut.earlier = other
                break
        before.append(cut)


def _follows(cut: Cut, other: Cut) -> bool:
    here, there = cut.place, other.place
    if (here.file, here.line) == (there.file, there.line) and here.column == there.column is not None:
        return True
    for compiled, met in cut.occurrences:
        for seen, before in other.occurrences:
            if seen is not compiled or before.attempt >= met.attempt:
                continue
            at, then = compiled.root(met.message.stack), seen.root(before.message.stack)
            if at is not None and then is not None and met.message.stack[at].line == before.message.stack[then].line:
                return True
    return False


def _attribute(cuts: Sequence[Cut], compiles: Sequence[Attempts]) -> None:
    """Find for each break the compiles that it caused.

    These are the resume functions behind breaks of their line, in the order in which the breaks were met, and functions
    that were inlined before a break inside of them: they are compiled by themselves afterwards.
    """
    waiting: list[tuple[Cut, Attempts, SourceSpan | None, tuple[SourceSpan, ...]]] = []
    for cut in cuts:
        for compiled, met in cut.occurrences:
            at = compiled.root(met.message.stack)
            root = met.message.stack[at] if at is not None else None
            inner = met.message.stack[at + 1 :] if at is not None else ()
            waiting.append((cut, compiled, root, inner))
    taken: set[int] = set()
    for compiled in compiles:
        if compiled.id.rsplit("/", 1)[-1] != "0" or not compiled.name:
            continue
        possible = [
            (index, cut)
            for index, (cut, seen, root, inner) in enumerate(waiting)
            if seen.process == compiled.process and seen.order < compiled.order and _goes_on(compiled, root, inner)
        ]
        if not possible:
            continue
        index, cut = next(((i, c) for i, c in possible if i not in taken), possible[-1])
        if compiled.resumes is not None:
            taken.add(index)
        cut.behind.append(compiled)


def _goes_on(compiled: Attempts, root: SourceSpan | None, inner: tuple[SourceSpan, ...]) -> bool:
    if compiled.resumes is not None:
        same = root is not None and (root.file, root.function) == (compiled.file, compiled.function)
        return same and root is not None and root.line == compiled.resumes
    return any((p.file, p.function) == (compiled.file, compiled.function) for p in inner)


def breaks_of(cuts: Sequence[Cut], compiles: Sequence[Attempts]) -> tuple[Break, ...]:
    """Return the breaks as the report has them, first those whose removal saves the most time."""
    marks = fingerprints(cuts)
    least = least_seconds(compiles)
    found = [_break(cut, marks, least) for cut in cuts]
    return tuple(sorted(found, key=lambda b: (b.kind == "caused", -b.cost.saving.value, -b.cost.extra_graphs.value)))


def _break(cut: Cut, marks: dict[int, str], least: float) -> Break:
    message, where = cut.message, cut.place
    code = break_code(message.first.gb_type)
    own = innermost([p for p in message.stack if p.origin == "own"])
    return Break(
        fingerprint=marks[id(cut)],
        code=code or "GB",
        gb_type=message.first.gb_type,
        kind="caused" if cut.earlier is not None else kind_of(message.first),
        page=break_page(code) if code else None,
        place=where,
        own_place=own if own != where else None,
        excerpt=excerpt(where),
        stack=tuple(p for p in message.stack if p.origin != "torch" or p == where),
        explanation=message.first.explanation,
        hints=message.first.hints,
        context=message.first.context,
        outcome=cut.outcome,
        followed_by=message.then.gb_type if message.then else None,
        caused_by=marks[id(cut.earlier)] if cut.earlier is not None else None,
        met=len(cut.occurrences),
        compiles=tuple(dict.fromkeys(compiled.id for compiled, _ in cut.occurrences)),
        ranks=tuple(sorted({c.rank for c, _ in cut.occurrences if c.rank is not None})),
        advice=advice_for(code, message, cut.outcome),
        cost=cost_of([c for c, _ in cut.occurrences], cut.behind, cut.outcome, least),
    )


def kind_of(first: BreakText) -> BreakKind:
    """Return who can remove a break: nobody but by a rewrite (`fundamental`), torch (`supportable`) or the user."""
    hints = " ".join(first.hints)
    if _CAUSED in hints:
        return "caused"
    if _FUNDAMENTAL in hints:
        return "fundamental"
    return "supportable" if any(hint in hints for hint in _SUPPORTABLE) else "user"


def fingerprints(cuts: Sequence[Cut]) -> dict[int, str]:
    """Return a fingerprint for each break, by the `id` of its Cut, that stays when lines move and folders differ.

    It is made of the kind of break, the file's name, the function and the line's text; equal lines are numbered.
    """
    marks: dict[int, str] = {}
    seen: dict[tuple[str, ...], int] = {}
    for cut in sorted(cuts, key=lambda c: (c.place.file, c.place.line, c.place.column or 0)):
        text = re.sub(r"\s+", " ", cut.place.text)
        parts = (cut.message.first.gb_type, os.path.basename(cut.place.file), cut.place.function, text)
        number = seen[parts] = seen.get(parts, -1) + 1
        marks[id(cut)] = digest((*parts, str(number)))
    return marks


def digest(parts: Iterable[str]) -> str:
    """Return a short hash of strings."""
    joined = "\0".join(parts).encode("utf-8", "backslashreplace")
    return hashlib.sha256(joined).hexdigest()[:16]
