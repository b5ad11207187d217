"""The outputs of the command line: results go to stdout, messages and progress to stderr.

rich decides on colours: none where the output is no terminal, where NO_COLOR is set or TERM is `dumb`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table
    from rich.text import Text

# A pipe has no width of its own: lines are as long as they need to be.
_UNBOUNDED = 4096


def results() -> Console:
    """Return the console on stdout, for results."""
    return _console(stderr=False)


def messages() -> Console:
    """Return the console on stderr, for messages and progress."""
    return _console(stderr=True)


def say(text: str) -> None:
    """Print a message to stderr."""
    typer.echo(text, err=True)


def print_json(data: Any) -> None:
    """Print the result of a verb under `--json`: one JSON document on stdout."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def table(*columns: str, right: tuple[str, ...] = (), flexible: str | None = None) -> Table:
    """Make an empty table with these columns and without borders; those in `right` are aligned to the right.

    flexible: the column that becomes narrower where a terminal is too narrow; its cells are made by `cut`.
    """
    from rich.table import Table

    found = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        # rich narrows columns that may wrap before it touches others.
        found.add_column(name, justify="right" if name in right else "left", no_wrap=name != flexible)
    return found


def cut(text: str) -> Text:
    """Make a cell of one line, which ends with an ellipsis where there is no room for all of it."""
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="ellipsis")


@contextlib.contextmanager
def progress(shown: bool = True) -> Iterator[Progress]:
    """Show progress bars on stderr within the block, if `shown` and if stderr is a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = messages()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=not (shown and console.is_terminal)
    ) as bars:
        yield bars


@contextlib.contextmanager
def waiting(text: str, shown: bool = True) -> Iterator[Callable[[str], None]]:
    """Show a line on stderr within the block, on a terminal and if `shown`; yields a function that changes its text."""
    console = messages()
    if not (shown and console.is_terminal):
        yield lambda text: None
        return
    with console.status(text) as status:
        yield status.update


def _console(stderr: bool) -> Console:
    from rich.console import Console

    class Ours(Console):
        """rich's console, which would end the process with 1, that is, with findings, when its reader is gone."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    console = Ours(stderr=stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _UNBOUNDED
    return console
