"""The report on one screen: the sentence, then the changes to make, with the code and carets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from tpu_dynamo.diagnostics.model import CacheLookup, CacheMiss, Report, SourceSpan
from tpu_dynamo.diagnostics.printable import one_line, visible
from tpu_dynamo.diagnostics.source_locations import shortened
from tpu_dynamo.diagnostics.summary import Change, changes, format_location, format_location_of, sentence
from tpu_dynamo.diagnostics.views.buckets import show_buckets
from tpu_dynamo.diagnostics.views.checks import show_checks
from tpu_dynamo.formatting import format_bytes, format_count, format_duration
from tpu_dynamo.plain_text import plain_text

_SHOWN_CHANGES = 8
_SHOWN_OWNERS = 8
# The summary of a graph that is similar to nothing in the cache.
NEW = "new"


def show(report: Report, console: Console, shown: int = _SHOWN_CHANGES, verbose: bool = False) -> None:
    """Print the report; `shown` is how many changes, the rest are counted.

    verbose: add what differs exactly from the most similar entries of the cache.
    """
    console.print(Text(sentence(report), style="bold"))
    found = changes(report)
    for number, change in enumerate(found[:shown], 1):
        _show_change(number, change, console)
    if len(found) > shown:
        console.print(Text(f"\n… and {len(found) - shown} more: --html FILE shows all of them", style="dim"))
    _show_rest(report, console)
    show_checks(report, console)
    show_buckets(report, console)
    _show_cache(report.cache, console, verbose)


def as_text(report: Report, width: int = 110) -> str:
    """Return the report as plain text of this width."""
    return plain_text(lambda console: show(report, console), width)


def _show_change(number: int, change: Change, console: Console) -> None:
    cost = [f"saves {'about ' if change.what == 'break' else ''}{format_duration(change.seconds)}"]
    if change.graphs:
        cost.append(format_count(change.graphs, "more graph" if change.what == "break" else "recompile"))
    if change.caused:
        cost.append("follows from an earlier break")
    head = Text(f"\n{number}. ", style="bold")
    head.append(one_line(change.title), style="bold cyan")
    head.append(f"  {change.code}  {', '.join(cost)}", style="dim")
    console.print(head)
    _show_code(change.place, console)
    if change.own_place is not None:
        console.print(Text("   called from", style="dim"))
        _show_code(change.own_place, console)
    if change.advice is not None:
        console.print(Padding(Text(one_line(change.advice.text)), (0, 0, 0, 3), expand=False))


def _show_code(found: SourceSpan, console: Console) -> None:
    name = f" in {found.function}" if found.function else ""
    console.print(Text(visible(f"   {format_location(found)}{name}"), style="magenta"), soft_wrap=True)
    if not found.text:
        return
    text, mark = shortened(found.text, found.mark)
    start, end = mark or (0, len(text))
    # Escapes are longer than what they stand for, so the carets are placed by what is shown.
    before, marked = visible(text[:start]), visible(text[start:end])
    line = Text("     " + before)
    line.append(marked, style="bold red")
    line.append(visible(text[end:]))
    console.print(line, soft_wrap=True)
    width = Text(marked).cell_len
    console.print(Text(" " * (5 + Text(before).cell_len) + "^" * max(1, width), style="red"), soft_wrap=True)


def _show_rest(report: Report, console: Console) -> None:
    lines: list[str] = []
    for found in report.unsupported:
        lines.append(f"{found.code}  {found.operation}: {found.why} at {format_location_of(found)}; try: {found.hint}")
    lines += [
        f"failed  {f.compile}: {f.kind}: {f.message.splitlines()[0] if f.message else ''}" for f in report.failures
    ]
    lines += [f"ran in eager  {f.reason} ({format_count(f.count, 'graph')})" for f in report.fallbacks]
    lines += [
        f"called alone  {c.operator} ({format_count(c.calls, 'call')}, {format_bytes(c.bytes_moved)} in and out, "
        f"{c.seconds:.3f} s)"
        for c in report.operator_calls
    ]
    for found in report.unrecorded:
        lines.append(f"Dynamo also counted {found.count} x '{found.gb_type}' without a record of where")
    spent: Counter[str] = Counter()
    for compiled in report.compiles:
        spent.update({stage.name: stage.seconds for stage in compiled.stages})
    if spent:
        shown = ", ".join(f"{name} {format_duration(seconds)}" for name, seconds in spent.most_common())
        lines.append(f"compile time  {shown}")
    crossing = sum(b.cost.bytes_crossing.value for b in report.breaks if b.cost.bytes_crossing)
    if crossing:
        lines.append(f"estimate: {format_bytes(crossing)} leave and enter graphs at the breaks in each call")
    unknown = report.run.unknown_records
    if unknown:
        lines.append("record kinds this version does not know: " + ", ".join(f"{k} ({n})" for k, n in unknown.items()))
    if report.run.damaged:
        lines.append(f"{format_count(report.run.damaged, 'line')} of the trace could not be read")
    if lines:
        console.print()
    for line in lines:
        console.print(Text(one_line(line)))


def _show_cache(levels: Sequence[CacheLookup], console: Console, verbose: bool) -> None:
    counts = {(level.level, level.outcome): level.count for level in levels}
    hits, misses = counts.get(("signature", "hit"), 0), counts.get(("signature", "miss"), 0)
    if not levels:
        return
    console.print(Text(f"\ncache: {format_count(hits, 'program')} found, {misses} lowered and compiled anew"))
    for level in levels:
        if level.misses and level.level != "signature":
            console.print(
                Padding(Text(one_line(f"{level.level}: known, and compiled again")), (0, 0, 0, 2), expand=False)
            )
        # What is new comes last: nothing can be done about it.
        for miss in sorted(level.misses, key=lambda miss: miss.summary == NEW):
            _show_miss(miss, console, verbose)
    if verbose:
        for level in levels:
            reasons = "" if level.misses or not level.reasons else f": {'; '.join(level.reasons)}"
            lookups = Text(one_line(f"{level.level}: {level.count} x {level.outcome}{reasons}"), style="dim")
            console.print(Padding(lookups, (0, 0, 0, 2), expand=False))


def _show_miss(miss: CacheMiss, console: Console, verbose: bool) -> None:
    owners = list(miss.owners) if verbose else [*miss.owners[:_SHOWN_OWNERS]]
    rest = len(miss.owners) - len(owners)
    names = "; ".join(owners) + (f"; and {rest} more" if rest else "")
    text = f"new: {names}" if miss.summary == NEW else f"{names}: {miss.summary}"
    console.print(Padding(Text(one_line(text)), (0, 0, 0, 4), expand=False))
    for reason in miss.reasons if verbose else ():
        console.print(Padding(Text(one_line(reason), style="dim"), (0, 0, 0, 6), expand=False))
