"""The profile on one screen: the sentence, then steps, graphs, and the lines that take the most time."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tpu_dynamo.diagnostics.printable import one_line

from ...plain_text import plain_text
from ..model import PARTS, Profile
from ..summary import format_place, format_share, format_time, parts_in_words, parts_of, sentence, typical

_LINES, _GRAPHS, _STEPS = 12, 8, 8


def show(profile: Profile, console: Console, lines: int = _LINES) -> None:
    """Print the profile; `lines` is how many source lines."""
    console.print(Text(sentence(profile), style="bold"))
    for note in profile.notes:
        console.print(Text(f"note: {one_line(note)}", style="yellow"))
    count = max(1, len(profile.steps))
    shown = _table("line", "share", "a step", "of which", "operators", right=("share", "a step"))
    for line in profile.lines[:lines]:
        code = Text(one_line(format_place(line.file, line.line)), style="cyan")
        if line.text:
            code.append(f"\n  {one_line(line.text)}", style="default")
        share = format_share(line.seconds / (profile.whole or 1.0))
        operators = ", ".join(line.operators)
        time = format_time(line.seconds / count)
        shown.add_row(code, share, time, parts_in_words(line), one_line(operators))
    console.print(shown)
    if len(profile.lines) > lines:
        console.print(
            Text(f"… and {len(profile.lines) - lines} more lines: --html FILE shows all of them", style="dim")
        )
    _show_graphs(profile, console)
    _show_steps(profile, console)


def as_text(profile: Profile, width: int = 120) -> str:
    """Return the profile as plain text of this width."""
    return plain_text(lambda console: show(profile, console), width)


def _table(*names: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for name in names:
        numeric = name in right
        table.add_column(name.upper(), justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    return table


def _show_graphs(profile: Profile, console: Console) -> None:
    parts = PARTS[:4]
    shown = _table("graph", "calls", *(f"{part}" for part in parts), "split by", right=("calls", *parts))
    for graph in profile.graphs[:_GRAPHS]:
        times = [format_time(graph.parts[part] / max(1, graph.calls)) for part in parts]
        shown.add_row(one_line(graph.name), f"{graph.calls:,}", *times, graph.split)
    if profile.graphs:
        console.print(Text("\neach call of a graph", style="bold"))
        console.print(shown)


def _show_steps(profile: Profile, console: Console) -> None:
    middle = typical(profile.steps)
    shown = _table("step", "time", *PARTS, "device", right=("time", *PARTS, "device"))
    for step in profile.steps[:_STEPS]:
        times = [format_time(seconds) for seconds in parts_of(step.parts)]
        name = f"{step.number} (median)" if step is middle and len(profile.steps) > 2 else str(step.number)
        shown.add_row(name, format_time(step.seconds), *times, format_time(step.device))
    console.print(Text("\nsteps, by what the host does", style="bold"))
    console.print(shown)
    if len(profile.steps) > _STEPS:
        console.print(Text(f"… and {len(profile.steps) - _STEPS} more steps", style="dim"))
