"""The output of `tpu-dynamo warmup`: progress on stderr, results on stdout."""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tpu_dynamo.formatting import format_count, format_duration

from .console import messages, print_json, results, say, table

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from tpu_dynamo.warmup.scheduler import Result, WarmupRun
    from tpu_dynamo.warmup.workers import Event

_STAGES = ("trace", "lower", "compile", "store")
_COLOURS = {"made": "green", "found": "cyan", "skipped": "dim", "missing": "yellow", "failed": "red", "left": "dim"}
_MARKS = {"made": "+", "found": "=", "skipped": "-", "missing": "?", "failed": "!", "left": " "}
_LINES = 12


@contextlib.contextmanager
def watching(run: WarmupRun, shown: bool) -> Iterator[Callable[[Event], None]]:
    """Show a run's progress within the block; yields a function that is to be called with each event.

    On a terminal: the latest cases, those that are running with their stages, and the counts so far. Else one line for
    each case that has ended; nothing with `shown` false.
    """
    console = messages()
    if not shown or not console.is_terminal:
        yield _PlainProgress(run, shown)
        return
    from rich.live import Live

    view = _LiveProgress(run)
    with Live(view, console=console, transient=True, refresh_per_second=8):
        yield view


class _PlainProgress:
    """Prints a line for each case that has ended."""

    def __init__(self, run: WarmupRun, shown: bool):
        self._run = run
        self._shown = shown

    def __call__(self, event: Event) -> None:
        if event.outcome is not None and self._shown:
            result = self._run.results[event.case.name]
            done, count = len(self._run.results), len(self._run.cases)
            ended = f"{result.state} in {format_duration(result.seconds)}{_first_line(result)}"
            say(f"[{done}/{count}] {event.case.name}: {ended}")


class _LiveProgress:
    """The part of a terminal that shows the progress, as rich renders it."""

    def __init__(self, run: WarmupRun):
        from rich.spinner import Spinner

        self._run = run
        self._stages: dict[str, str] = {}
        self._latest: deque[Result] = deque(maxlen=_LINES)
        self._spinner = Spinner("dots")

    def __call__(self, event: Event) -> None:
        if event.outcome is not None:
            self._stages.pop(event.case.name, None)
            self._latest.append(self._run.results[event.case.name])
        else:
            self._stages[event.case.name] = str(event.stage)

    def __rich_console__(self, console: Console, options: Any) -> Iterator[RenderableType]:
        from rich.table import Table
        from rich.text import Text

        # Below stand the running cases and the counts.
        room = max(1, min(_LINES, console.size.height - len(self._stages) - 3))
        width = max((len(case.name) for case in self._run.cases), default=0)
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(width=1)
        grid.add_column(no_wrap=True, overflow="ellipsis", width=min(width, max(20, console.width - 48)))
        grid.add_column(no_wrap=True, width=32)
        grid.add_column(justify="right", no_wrap=True, width=9)
        for result in list(self._latest)[-room:]:
            colour = _COLOURS[result.state]
            grid.add_row(
                Text(_MARKS[result.state], style=colour),
                result.case.name,
                Text(_describe_result(result), style=colour),
                format_duration(result.seconds),
            )
        for name, since in self._run.running.items():
            grid.add_row(
                self._spinner, name, _path(self._stages.get(name, "")), format_duration(self._run.clock() - since)
            )
        yield grid
        yield self._counts()

    def _counts(self) -> RenderableType:
        from rich.text import Text

        states = Counter(result.state for result in self._run.results.values())
        text = Text(f"{len(self._run.results)} of {format_count(len(self._run.cases), 'case')}", style="bold")
        for state, count in states.items():
            text.append(f"   {count} {state}", style=_COLOURS[state])
        left = self._run.remaining()
        if left is not None and self._run.waiting:
            text.append(f"   about {format_duration(left)} to go", style="dim")
        return text


def _path(stage: str) -> RenderableType:
    """Return the stages up to this one, as `trace > lower`."""
    from rich.text import Text

    if stage not in _STAGES:
        return Text({"start": "starting", "build": "building the model"}.get(stage, stage), style="dim")
    text = Text()
    at = _STAGES.index(stage)
    # Later stages are left out, since not every terminal shows dim text.
    for number, each in enumerate(_STAGES[: at + 1]):
        text.append(" > " if number else "", style="dim")
        text.append(each, style="bold cyan" if number == at else "default")
    return text


def _describe_result(result: Result) -> str:
    graphs = len(result.outcome.get("graphs", ()))
    if result.state in ("made", "found"):
        return f"{result.state}, {format_count(graphs, 'program')}"
    if result.state == "missing":
        return f"{len(result.outcome.get('missing', ()))} missing"
    return result.kind if result.state == "failed" and result.kind != "failed" else result.state


def show_cases(run: WarmupRun, json: bool) -> None:
    """Print the cases that a run would do, with the time that each took before."""
    seconds = {case.name: run.ledger.seconds(case) for case in run.waiting}
    if json:
        print_json([{**case.as_dict(), "seconds": seconds[case.name]} for case in run.waiting])
        return
    shown = table("CASE", "FACTORY", "TOOK BEFORE", right=("TOOK BEFORE",))
    for case in run.waiting:
        took = seconds[case.name]
        shown.add_row(case.name, case.factory or " ".join(case.command), "" if took is None else format_duration(took))
    results().print(shown)
    left = run.remaining()
    skipped = len(run.cases) - len(run.waiting)
    say(
        format_count(len(run.waiting), "case") + (f", {skipped} done by earlier runs" if skipped else "")
        + (f"; about {format_duration(left)}" if left is not None else "")
    )  # fmt: skip


def show_results(ended: Sequence[Result], *, checking: bool, seconds: float, console: Console) -> None:
    """Print the result of each case, the messages of those that failed, and a summary."""
    from rich.text import Text

    shown = table(
        "CASE", "RESULT", "PROGRAMS", "LOWERED", "COMPILED", *(s.upper() for s in _STAGES[:3]), "TOTAL",
        right=("PROGRAMS", "LOWERED", "COMPILED", *(s.upper() for s in _STAGES[:3]), "TOTAL"),
    )  # fmt: skip
    for result in ended:
        stages = result.outcome.get("seconds", {})
        ran = result.state not in ("skipped", "left")
        shown.add_row(
            result.case.name,
            Text(result.kind if result.kind == "timeout" else result.state, style=_COLOURS[result.state]),
            *(
                [
                    str(len(result.outcome.get("graphs", ()))),
                    str(result.outcome.get("lowerings", 0)),
                    str(result.outcome.get("xla_compiles", 0)),
                    *(_seconds(stages.get(stage)) for stage in _STAGES[:3]),
                    _seconds(result.seconds),
                ]
                if ran
                else [""] * 7
            ),
        )
    console.print(shown)
    for (state, why), names in _grouped_messages(ended).items():
        console.print()
        for name in names:
            console.print(Text(name, style=f"bold {_COLOURS[state]}"))
        console.print(Text("  " + why.replace("\n", "\n  ")))
    say(_summary(ended, checking, seconds))


def _grouped_messages(ended: Sequence[Result]) -> dict[tuple[str, str], list[str]]:
    """Return the messages of all cases by state and text, each with the names of its cases."""
    found: dict[tuple[str, str], list[str]] = {}
    for result in ended:
        whys = [result.why] if result.state in ("failed", "missing") else []
        for why in (*whys, *result.outcome.get("notes", ())):
            found.setdefault((result.state, why), []).append(result.case.name)
    return found


def _summary(ended: Sequence[Result], checking: bool, seconds: float) -> str:
    states = Counter(result.state for result in ended)
    lowered = sum(result.outcome.get("lowerings") or 0 for result in ended)
    compiled = sum(result.outcome.get("xla_compiles") or 0 for result in ended)
    parts = ", ".join(f"{count} {state}" for state, count in states.items())
    if checking:
        missing = sum(len(result.outcome.get("missing", ())) for result in ended)
        what = f"missing are {missing} programs or executables" if missing else "nothing is missing"
        return f"{format_count(len(ended), 'case')} checked in {format_duration(seconds)}: {parts}; {what}"
    what = f"{format_count(lowered, 'graph')} lowered, {format_count(compiled, 'program')} compiled"
    return f"{format_count(len(ended), 'case')} in {format_duration(seconds)}: {parts}; {what}"


def _first_line(result: Result) -> str:
    return f": {result.why.splitlines()[0]}" if result.why else ""


def _seconds(value: float | None) -> str:
    return "" if value is None else format_duration(value)
