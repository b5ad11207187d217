"""`cache prune`, `cache rm` and `cache clear`: what is removed from the cache."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

import typer

from tpu_dynamo.cache.entries import Described
from tpu_dynamo.formatting import format_bytes, format_path

from ..confirmation import confirm
from ..console import print_json, say
from ..exit_codes import ExitCode, end, refuse
from ..shared_options import CacheDir, DryRun, Json, Yes
from .filters import EVERYTHING, Filter, Keys, age, chosen, filtering, size, stale_entries
from .ls import as_dict
from .open_store import Opened, count_entries, open_to_read, open_to_write


def prune(
    max_size: Annotated[
        int | None,
        typer.Option(parser=size, metavar="SIZE", help="Then remove the least recently used until so much is left."),
    ] = None,
    max_age: Annotated[
        float | None, typer.Option(parser=age, metavar="AGE", help="Remove what was not used for as long.")
    ] = None,
    stale: Annotated[
        bool, typer.Option("--stale", help="Remove what no process can find with the versions that are installed.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    cache_dir: CacheDir = None,
    json: Json = False,
) -> None:
    """Remove what is old, stale or too much, as --max-age, --stale and --max-size say."""
    if max_size is None and max_age is None and not stale:
        refuse("say what is to go: --max-size, --max-age, --stale, or several of them")
    from tpu_dynamo_runtime.store import to_prune

    opened = (open_to_read if dry_run else open_to_write)(cache_dir)
    everything = opened.entries()
    gone = stale_entries(everything) if stale else []
    rest = [item for item in everything if item not in gone]
    pruned = to_prune((item.entry for item in rest), time.time(), max_bytes=max_size, max_age=max_age)
    names = {(entry.kind, entry.key) for entry in pruned}
    gone += [item for item in rest if (item.entry.kind, item.entry.key) in names]
    _remove(opened, gone, dry_run, yes, json)
    if not dry_run and opened.store.eviction is not None:
        opened.store.eviction.settle()  # what writers that died left
    opened.end()


@filtering
def rm(
    keys: Keys = None,
    conditions: Filter = EVERYTHING,
    dry_run: DryRun = False,
    yes: Yes = False,
    cache_dir: CacheDir = None,
    json: Json = False,
) -> None:
    """Remove the entries of these keys, or those that the options choose."""
    if not keys and not conditions:
        refuse("say which: keys, or options that choose; `tpu-dynamo cache clear` removes all")
    opened = (open_to_read if dry_run else open_to_write)(cache_dir)
    _remove(opened, chosen(opened.entries(), keys, conditions), dry_run, yes, json)
    opened.end()


def clear(dry_run: DryRun = False, yes: Yes = False, cache_dir: CacheDir = None, json: Json = False) -> None:
    """Remove all entries, and what is in quarantine; what processes are writing just now stays."""
    from tpu_dynamo_runtime.store import clear as clear_store

    opened = (open_to_read if dry_run else open_to_write)(cache_dir)
    _remove(opened, opened.entries(), dry_run, yes, json)
    if not dry_run:
        clear_store(opened.store)
    opened.end()


def _remove(opened: Opened, gone: Sequence[Described], dry_run: bool, yes: bool, json: bool) -> None:
    from tpu_dynamo_runtime.store import discard

    total = format_bytes(sum(item.entry.size for item in gone))
    if gone and not dry_run:
        confirm(f"Remove {count_entries(gone)} ({total}) from {format_path(opened.directory)}?", yes)
    removed = list(gone) if dry_run else [item for item in gone if discard(opened.store, item.entry)]
    if json:
        print_json({"dry_run": dry_run, "removed": [as_dict(item) for item in removed]})
    else:
        for item in removed:
            typer.echo(f"{item.entry.key}  {item.entry.kind}  {item.graph or '-'}")
    freed = format_bytes(sum(item.entry.size for item in removed))
    verb = "would remove" if dry_run else "removed"
    say(f"{verb} {count_entries(removed)}, {freed}, in {format_path(opened.directory)}")
    if len(removed) < len(gone):
        say(f"{len(gone) - len(removed)} were used meanwhile, and stay")
        if not opened.store.faults.counts():
            end(ExitCode.INCOMPLETE)
