"""`cache dir` and `cache ls`: where the cache is, and what is in it."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from tpu_dynamo.cache.entries import Described
from tpu_dynamo.formatting import format_age, format_bytes, format_count, format_path

from ..console import cut, print_json, results, say, table
from ..shared_options import CacheDir, Json
from .filters import EVERYTHING, Filter, filtering
from .open_store import open_to_read

_KEY = 12
# Narrower terminals have no room for everything and the graph's name.
_WIDE = 100
_COLUMNS = ("KEY", "KIND", "PLATFORM", "SIZE", "PLAIN", "LAST USED", "GRAPH")
_ORDERS = {
    "used": lambda item: -item.entry.last_use,
    "size": lambda item: -item.entry.size,
    "graph": lambda item: (item.graph or "~", item.entry.kind),
    "key": lambda item: item.entry.key,
}


def directory(cache_dir: CacheDir = None, json: Json = False) -> None:
    """Print the cache's directory."""
    path = str(open_to_read(cache_dir).directory)
    if json:
        print_json({"directory": path})
    else:
        typer.echo(path)


@filtering
def ls(
    conditions: Filter = EVERYTHING,
    sort: Annotated[str, typer.Option(metavar="used|size|graph|key", help="In which order.")] = "used",
    full: Annotated[bool, typer.Option("--full", help="Show keys in full.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print keys alone, one a line.")] = False,
    cache_dir: CacheDir = None,
    json: Json = False,
) -> None:
    """List the entries, the latest used first."""
    if sort not in _ORDERS:
        raise typer.BadParameter(f"{sort!r} is no order: there are {', '.join(_ORDERS)}", param_hint="--sort")
    opened = open_to_read(cache_dir)
    found = sorted(conditions.of(opened.entries()), key=_ORDERS[sort])
    if json:
        print_json([as_dict(item) for item in found])
    elif quiet:
        for item in found:
            typer.echo(item.entry.key)
    elif found:
        _show(found, full)
    if not quiet:
        plain = sum(item.plain_size or 0 for item in found)
        stored = sum(item.entry.size for item in found)
        of = "" if conditions else f", of at most {format_bytes(opened.store.max_bytes)}"
        what = f"{format_bytes(stored)} on disk{of if opened.store.max_bytes else ''}, {format_bytes(plain)} plain"
        say(f"{format_count(len(found), 'entry')} in {format_path(opened.directory)}" + (f": {what}" if found else ""))
    opened.end()


def as_dict(item: Described) -> dict[str, Any]:
    """Return an entry as `--json` prints it."""
    header = item.entry.header
    return {
        "kind": item.entry.kind,
        "key": item.entry.key,
        "graph": item.graph,
        "platform": item.platform,
        "program": item.program,
        "size": item.entry.size,
        "plain_size": item.plain_size,
        "created": header.created if header else None,
        "last_use": round(item.entry.last_use),
        "problem": item.entry.problem,
    }


def _show(found: list[Described], full: bool) -> None:
    console, now = results(), time.time()
    wide = console.width >= _WIDE
    columns = [name for name in _COLUMNS if wide or name not in ("PLATFORM", "PLAIN")]
    shown_table = table(*columns, right=("SIZE", "PLAIN"), flexible="GRAPH")
    for item in found:
        problem = item.entry.problem
        cells = {
            "KEY": item.entry.key if full else item.entry.key[:_KEY],
            "KIND": item.entry.kind,
            "PLATFORM": item.platform or "-",
            "SIZE": format_bytes(item.entry.size),
            "PLAIN": format_bytes(item.plain_size) if item.plain_size is not None else "-",
            "LAST USED": format_age(max(0.0, now - item.entry.last_use)),
            "GRAPH": f"damaged: {problem}" if problem else item.graph or "-",
        }
        shown_table.add_row(*(cut(cells[name]) for name in columns), style="red" if problem else None)
    console.print(shown_table)
