"""`cache verify`: whether every entry is what was written."""

from __future__ import annotations

from typing import Annotated

import typer

from tpu_dynamo.formatting import format_count, format_path

from ..console import cut, print_json, progress, results, say, table
from ..exit_codes import ExitCode, end
from ..shared_options import CacheDir, Json, NoProgress
from .filters import Filter, Keys, Kind, chosen
from .open_store import open_to_read, open_to_write


def verify(
    keys: Keys = None,
    kind: Kind = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Put what is damaged into quarantine, so that it is made anew.")
    ] = False,
    no_progress: NoProgress = False,
    cache_dir: CacheDir = None,
    json: Json = False,
) -> None:
    """Check the checksums of all entries, or of these.

    Exits with 5 when some are damaged, with 1 when they were and --repair took them out.
    """
    from tpu_dynamo_runtime.store import verify as verify_entry

    opened = (open_to_write if repair else open_to_read)(cache_dir)
    entries = chosen(opened.entries(), keys, Filter(kind=kind))
    damaged = []
    with progress(not no_progress) as bars:
        for item in bars.track(entries, description="checking"):
            if problem := verify_entry(opened.store, item.entry.kind, item.entry.key, repair=repair):
                damaged.append((item, problem))
    if json:
        rows = [{"kind": item.entry.kind, "key": item.entry.key, "problem": problem} for item, problem in damaged]
        print_json({"checked": len(entries), "damaged": rows, "repaired": repair})
    elif damaged:
        shown_table = table("KEY", "KIND", "PROBLEM", flexible="PROBLEM")
        for item, problem in damaged:
            shown_table.add_row(item.entry.key, item.entry.kind, cut(problem))
        results().print(shown_table)
    left = [item for item, _ in damaged if verify_entry(opened.store, item.entry.kind, item.entry.key)]
    say(f"{format_count(len(entries), 'entry')} in {format_path(opened.directory)}: {len(damaged) or 'none'} damaged")
    if damaged and not repair:
        say("`tpu-dynamo cache verify --repair` takes them out; they are made anew when they are needed")
    if damaged:
        end(ExitCode.CACHE if left else ExitCode.FINDINGS)
