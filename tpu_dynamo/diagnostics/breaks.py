"""Breaks: every place where a frame was cut, once, with its kind and what it follows from."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from ._torch_compat import break_code, break_page
from .advice import advice_for
from .attempts import Attempts, Met
from .costs import cost_of, least_of
from .messages import BreakMessage, Said, said
from .model import Break, Kind, Outcome, Place
from .source_locations import excerpt, innermost, place

# What torch._dynamo.graph_break_hints has its messages end with.
_FUNDAMENTAL = "This graph break is fundamental"
_SUPPORTABLE = ("It may be possible to write Dynamo tracing rules", "This is likely to be a Dynamo bug")
_WORSE: tuple[Outcome, ...] = ("resumed", "partial", "skipped")
_CAUSED = "This graph break may have been caused by an earlier graph break"


@dataclass
class Cut:
    """One break as the compiles met it: the message, and in which compiles."""

    message: BreakMessage
    place: Place
    occurrences: list[tuple[Attempts, Met]] = field(default_factory=list)
    outcome: Outcome = "resumed"
    behind: list[Attempts] = field(default_factory=list)
    earlier: Cut | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """What tells breaks apart: the kind and where."""
        return self.message.first.gb_type, self.place.file, self.place.line, self.place.column


def find_cuts(compiles: Sequence[Attempts]) -> list[Cut]:
    """The breaks of a trace, each once: calls of one function, recompiles and ranks meet the same break again."""
    cuts: dict[tuple[object, ...], Cut] = {}
    for compiled in compiles:
        for met in compiled.met or _unrecorded(compiled, compiles):
            where = innermost(met.message.stack)
            if where is None:
                where = place(compiled.file, compiled.metrics.get("co_firstlineno") or 0, compiled.function)
            cut = Cut(met.message, where)
            cut = cuts.setdefault(cut.key, cut)
            _meet(cut, compiled, met)
    found = list(cuts.values())
    _link(found)
    _attribute(found, compiles)
    return found


def _meet(cut: Cut, compiled: Attempts, met: Met) -> None:
    # Dynamo first tries to go on behind a break; where it cannot, it says the same of the same place again.
    cut.outcome = _WORSE[max(_WORSE.index(cut.outcome), _WORSE.index(met.message.outcome))]
    if met.message.then and not cut.message.then:
        cut.message = replace(cut.message, then=met.message.then)
    if all(seen is not compiled or before.attempt != met.attempt for seen, before in cut.occurrences):
        cut.occurrences.append((compiled, met))


def _unrecorded(compiled: Attempts, compiles: Sequence[Attempts]) -> list[Met]:
    """A break that only the metrics tell of, such as the limit of recompiles."""
    if compiled.failed != "Unsupported":
        return []
    first, then = said(compiled.metrics.get("fail_reason") or "")
    same = next(
        (c for c in compiles if (c.process, c.frame) == (compiled.process, compiled.frame) and c.name), compiled
    )
    file = compiled.metrics.get("fail_user_frame_filename") or same.file
    line = compiled.metrics.get("fail_user_frame_lineno") or same.metrics.get("co_firstlineno") or 0
    where = place(file, line, same.function)
    return [Met(BreakMessage(first, then, (where,) if file else (), "skipped"), 0)]


def _link(cuts: Iterable[Cut]) -> None:
    """Find for each break the earlier one that it follows from.

    That is one on the same call, whose value went missing at the earlier break; or one that Dynamo met only when it
    tried again behind an earlier break of the same function, and that lies within the same statement.
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
    """Give each compile that would not be but for a break to that break.

    A resume function goes on behind a break of its line, in the order in which they were met; a function that was
    inlined until the break below it is compiled by itself afterwards.
    """
    waiting: list[tuple[Cut, Attempts, Place | None, tuple[Place, ...]]] = []
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


def _goes_on(compiled: Attempts, root: Place | None, inner: tuple[Place, ...]) -> bool:
    if compiled.resumes is not None:
        same = root is not None and (root.file, root.function) == (compiled.file, compiled.function)
        return same and root is not None and root.line == compiled.resumes
    return any((p.file, p.function) == (compiled.file, compiled.function) for p in inner)


def breaks_of(cuts: Sequence[Cut], compiles: Sequence[Attempts]) -> tuple[Break, ...]:
    """The breaks as the report has them, those first whose end saves the most."""
    marks = fingerprints(cuts)
    least = least_of(compiles)
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


def kind_of(first: Said) -> Kind:
    """Who can do something about a break: nobody (rewrite it), torch, or the user."""
    hints = " ".join(first.hints)
    if _CAUSED in hints:
        return "caused"
    if _FUNDAMENTAL in hints:
        return "fundamental"
    return "supportable" if any(hint in hints for hint in _SUPPORTABLE) else "user"


def fingerprints(cuts: Sequence[Cut]) -> dict[int, str]:
    """A mark of each break that stays when lines move and folders differ: kind, file, function, the line's text.

    Equal lines of one function are numbered.
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
    """A short hash of strings."""
    joined = "\0".join(parts).encode("utf-8", "backslashreplace")
    return hashlib.sha256(joined).hexdigest()[:16]
