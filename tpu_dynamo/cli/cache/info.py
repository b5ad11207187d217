"""`cache info` and `cache explain`: what an entry is, and what keeps it from being found."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tpu_dynamo.cache.differences import differences, program_differences
from tpu_dynamo.cache.entries import EXECUTABLE, PROGRAM, Described, explains
from tpu_dynamo.formatting import format_age, format_bytes

from ..console import cut, print_json, results, table, waiting
from ..exit_codes import ExitCode, end, refuse
from ..shared_options import CacheDir, Json, NoProgress
from .descriptions import input_rows, parts_of, sentence
from .filters import completions, entry_of
from .ls import as_dict
from .open_store import open_to_read

if TYPE_CHECKING:
    from rich.table import Table

    from tpu_dynamo_runtime.store import Store

# So many inputs are shown: a model's parameters are inputs too.
_INPUTS = 12

Key = Annotated[
    str,
    typer.Argument(
        metavar="KEY", help="A key, or as much of its beginning as is unambiguous.", autocompletion=completions
    ),
]


def info(key: Key, cache_dir: CacheDir = None, json: Json = False) -> None:
    """Show what an entry holds: its graph, inputs, sizes and sections, and the entries that belong to it."""
    opened = open_to_read(cache_dir)
    everything = opened.entries()
    item = entry_of(everything, key)
    related = [other for other in everything if item.program and other.program == item.program and other != item]
    if json:
        data = as_dict(item) | {"sections": _sections(item), "metadata": dict(item.metadata)}
        print_json(data | {"related": [as_dict(other) for other in related]})
    else:
        _show(item, related)
    opened.end()


def explain(
    key: Key,
    other: Annotated[
        str | None,
        typer.Argument(
            metavar="OTHER", help="Another key, to say what differs between both.", autocompletion=completions
        ),
    ] = None,
    no_progress: NoProgress = False,
    cache_dir: CacheDir = None,
    json: Json = False,
) -> None:
    """Say in words what an entry is, and what differs from what is installed here, or from another entry.

    Exits with 1 when the entry is stale, that is, when no process can find it with what is installed.
    """
    opened = open_to_read(cache_dir)
    everything = opened.entries()
    item = entry_of(everything, key)
    if other is not None:
        second = entry_of(everything, other)
        found = _between(opened.store, item, second)
        if json:
            print_json({"entry": as_dict(item), "other": as_dict(second), "differences": found})
        else:
            text = "\n".join(found) or "Nothing differs in what they say of themselves."
            results().print(f"{sentence(item)}\n{sentence(second)}\n\n{text}", markup=False)
        opened.end()
        return
    with waiting("comparing with what is installed", not no_progress):
        from tpu_dynamo.cache.staleness import Present

        reasons = Present().reasons(item)
    if json:
        parts = [{"part": name, "is": value} for name, value in parts_of(item)]
        print_json({"entry": as_dict(item), "parts": parts, "stale": None if reasons is None else reasons})
    else:
        console = results()
        console.print(f"{sentence(item)}\n", markup=False)
        grid = _grid(parts_of(item))
        console.print(grid)
        console.print(f"\n{_staleness(reasons)}", markup=False)
    opened.end()
    if reasons:
        end(ExitCode.FINDINGS)


def _staleness(reasons: list[str] | None) -> str:
    if reasons is None:
        return "Nothing can be said of whether it is found here: it does not tell what it was made with."
    if not reasons:
        return "It can be found here: versions and machine are those that it was made with."
    return "Stale here, no process can find it:\n" + "\n".join(f"  {reason}" for reason in reasons)


def _between(store: Store, was: Described, now: Described) -> list[str]:
    """Return what differs between two entries of one kind, in words."""
    if was.entry.kind != now.entry.kind:
        refuse(f"a {was.entry.kind} and a {now.entry.kind} have nothing that could be compared")
    if was.entry.kind == PROGRAM and explains(was.metadata) and explains(now.metadata):
        return program_differences(was.metadata, now.metadata, lambda: (_graph(store, was), _graph(store, now)))
    if was.entry.kind == EXECUTABLE:
        names = ("program", "environment")
        before, after = ({name: each.metadata.get(name) for name in names} for each in (was, now))
        found = differences({"program": before["program"]}, {"program": after["program"]})
        return found + differences(before["environment"] or {}, after["environment"] or {})
    return differences(was.metadata, now.metadata)


def _graph(store: Store, item: Described) -> str | None:
    entry = store.get(item.entry.kind, item.entry.key, only=("graph",), remote=False)
    return entry.sections["graph"].decode(errors="replace") if entry and "graph" in entry.sections else None


def _sections(item: Described) -> list[dict[str, Any]]:
    header = item.entry.header
    return [
        {"name": section.name, "stored": section.stored, "plain_size": section.size, "sha256": section.sha256}
        for section in (header.sections if header else ())
    ]


def _show(item: Described, related: Sequence[Described]) -> None:
    console, entry = results(), item.entry
    grid = _grid([("key", entry.key), *parts_of(item)])
    if entry.header is not None:
        grid.add_row("made", f"{datetime.fromtimestamp(entry.header.created):%Y-%m-%d %H:%M}")
    else:
        grid.add_row("problem", cut(entry.problem or "it cannot be read"), style="red")
    grid.add_row("last used", format_age(max(0.0, time.time() - entry.last_use)))
    plain = f", {format_bytes(item.plain_size)} plain" if item.plain_size is not None else ""
    grid.add_row("size", f"{format_bytes(entry.size)} on disk{plain}")
    console.print(grid)
    if rows := input_rows(item.metadata):
        inputs = table("INPUT", "DTYPE", "SIZE", "STRIDE", "DEVICE", flexible="INPUT")
        for name, *rest in rows[:_INPUTS]:
            inputs.add_row(*map(cut, (name, *rest)))
        if len(rows) > _INPUTS:
            inputs.add_row(cut(f"and {len(rows) - _INPUTS} more, which --json shows"))
        console.print("", inputs)
    if sections := _sections(item):
        stored = table("SECTION", "ON DISK", "PLAIN", right=("ON DISK", "PLAIN"))
        for section in sections:
            stored.add_row(section["name"], format_bytes(section["stored"]), format_bytes(section["plain_size"]))
        console.print("", stored)
    if related:
        belonging = table("BELONGS TO IT", "KIND", "PLATFORM", "SIZE", right=("SIZE",))
        for other in related:
            size = format_bytes(other.entry.size)
            belonging.add_row(other.entry.key[:12], other.entry.kind, other.platform or "-", size)
        console.print("", belonging)


def _grid(rows: Sequence[tuple[str, str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, Text(value))
    return grid
