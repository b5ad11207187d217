"""The report's part on calls that were compared with eager operators: the wrong ones with their lines."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from tpu_dynamo.diagnostics.model import CheckedCalls, Report
from tpu_dynamo.diagnostics.printable import one_line
from tpu_dynamo.diagnostics.summary import format_location
from tpu_dynamo.formatting import format_count


def check_sentence(found: CheckedCalls) -> str:
    """Say in one sentence what was found of a graph's calls."""
    told = f"{found.verdict}: {format_count(found.calls, 'call')} of {found.graph}"
    return f"{told}; {found.why}" if found.why else told


def show_checks(report: Report, console: Console) -> None:
    """Print what was found of the calls that were checked."""
    if not report.checks:
        return
    console.print(Text("\nchecked beside eager operators", style="bold"))
    for found in report.checks:
        style = "red" if found.verdict == "wrong" else ""
        console.print(Padding(Text(one_line(check_sentence(found)), style=style), (0, 0, 0, 2), expand=False))
        if found.place is not None:
            text = f"at {format_location(found.place)}  {found.place.text}"
            console.print(Padding(Text(one_line(text), style="magenta"), (0, 0, 0, 4), expand=False))
