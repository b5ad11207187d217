"""Recompiles: each cause once, with all guards that failed and the values that were seen."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from .attempts import Attempts
from .breaks import digest
from .costs import seconds_of
from .guards import actual_value, failed_guards
from .model import FailedGuard, Quantity, Recompile, SourceSpan
from .recompile_advice import advice_on, code_of
from .source_locations import arguments_at, excerpt, source_span


@dataclass
class Cause:
    """One guard of one function that keeps failing, with all the recompiles that it caused."""

    guard: FailedGuard
    compiles: list[Attempts] = field(default_factory=list)
    guards: dict[str, FailedGuard] = field(default_factory=dict)
    values: dict[str, None] = field(default_factory=dict)


def find_recompiles(compiles: Sequence[Attempts], limit: int) -> tuple[Recompile, ...]:
    """Return the causes of recompiles, first those that cost the most time.

    A call recompiles when it fails the guards of every entry. The newest entry is the most general one, and the guard
    that it failed by is taken for the cause.
    """
    causes: dict[tuple[object, ...], Cause] = {}
    for compiled in compiles:
        guards = _failed(compiled)
        if not guards:
            continue
        first = guards[0]
        # A function and what goes on behind its breaks are one function to its author.
        named = _named(compiled, compiles)
        key = (compiled.process, named.file, named.function, first.kind, first.source, first.dimension)
        cause = causes.setdefault(key, Cause(first))
        cause.compiles.append(compiled)
        for guard in guards:
            cause.guards.setdefault(guard.text, guard)
            if (guard.kind, guard.source, guard.dimension) == (first.kind, first.source, first.dimension):
                cause.values |= dict.fromkeys(v for v in _seen(guard) if v is not None)
    found = [_recompile(cause, compiles, limit) for cause in _without_ranks(causes.values())]
    return tuple(sorted(found, key=lambda r: -r.compile_time.value))


def _failed(compiled: Attempts) -> list[FailedGuard]:
    guards = [guard for reason in compiled.reasons for guard in failed_guards(reason)]
    return [replace(g, actual=actual_value(g, compiled.guards, compiled.symbols)) for g in guards]


def _seen(guard: FailedGuard) -> tuple[str | None, ...]:
    if guard.kind in ("shape_expression", "global_state", "keys"):
        return (guard.actual,)
    return guard.expected, guard.actual


def _without_ranks(causes: Iterable[Cause]) -> list[Cause]:
    """Merge equal causes of several ranks or processes into one."""
    merged: dict[tuple[object, ...], Cause] = {}
    for cause in causes:
        first, guard = cause.compiles[0], cause.guard
        key = (first.file, first.name, first.metrics.get("co_firstlineno"), guard.kind, guard.source, guard.dimension)
        if key not in merged or any(c.process == first.process for c in merged[key].compiles):
            key = (*key, id(cause)) if key in merged else key
            merged[key] = cause
        else:
            merged[key].compiles += cause.compiles
            merged[key].guards |= cause.guards
            merged[key].values |= cause.values
    return list(merged.values())


def _recompile(cause: Cause, compiles: Sequence[Attempts], limit: int) -> Recompile:
    first = cause.compiles[0]
    named = _named(first, compiles)
    where = cause.guard.place or _definition(named)
    values = tuple(sorted(cause.values, key=_natural))
    so_far = sum((c.process, c.frame) == (first.process, first.frame) and bool(c.reasons) for c in compiles)
    code = code_of(cause.guard)
    names = ", ".join(c.id for c in cause.compiles)
    guard = cause.guard
    parts = (code, os.path.basename(where.file), named.function, guard.kind, guard.source or "", str(guard.dimension))
    return Recompile(
        fingerprint=digest(parts),
        code=code,
        function=named.function,
        place=where,
        excerpt=excerpt(where),
        kind=cause.guard.kind,
        source=cause.guard.source,
        dimension=cause.guard.dimension,
        values=values,
        guards=tuple(cause.guards.values()),
        compiles=tuple(c.id for c in cause.compiles),
        ranks=tuple(sorted({c.rank for c in cause.compiles if c.rank is not None})),
        so_far=so_far,
        limit=limit,
        advice=advice_on(cause.guard, values, _break_behind(first, guard)),
        compile_time=Quantity(
            sum(map(seconds_of, cause.compiles)), "s", True, f"entire_frame_compile_time_s of {names}"
        ),
    )


def _named(compiled: Attempts, compiles: Sequence[Attempts]) -> Attempts:
    """Return a compile of the same function whose record has its name: that of a refusal at the limit has none."""
    same = (c for c in compiles if (c.process, c.frame) == (compiled.process, compiled.frame) and c.name)
    return compiled if compiled.name else next(same, compiled)


def _break_behind(compiled: Attempts, guard: FailedGuard) -> int | None:
    """Return the line of the graph break that made a guard's value an input; None for an argument of the function."""
    line, name = compiled.resumes, re.match(r"\w+", guard.source or "")
    return None if line is None or name is None or name[0] in arguments_at(compiled.file, line) else line


def _definition(compiled: Attempts) -> SourceSpan:
    return source_span(compiled.file, compiled.metrics.get("co_firstlineno") or 0, compiled.function)


def _natural(value: str) -> tuple[int, float, str]:
    try:
        return 0, float(value), value
    except ValueError:
        return 1, 0.0, value
