"""`cache export`, `import`, `push` and `pull`: entries carried from one machine to another."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from tpu_dynamo.cache.entries import PORTABLE
from tpu_dynamo.formatting import format_bytes, format_count, format_path

from ..confirmation import confirm
from ..console import print_json, progress, say
from ..exit_codes import ExitCode, end, refuse
from ..shared_options import CacheDir, DryRun, Json, NoProgress, Yes
from .filters import EVERYTHING, Filter, Keys, Kind, chosen, filtering
from .open_store import Opened, count_by_kind, count_entries, open_to_read, open_to_write, remote_url

TRUST = (
    "Executables are native code: whoever made them decides what every process runs that finds them here, with your\n"
    "rights. Checksums find damage, they are no signatures. Take in only what comes from somebody you trust; what was\n"
    "exported with --portable holds programs alone, which are compiled here."
)

Remote = Annotated[
    str | None, typer.Option(metavar="URL", help="The remote tier, in the place of TPU_DYNAMO_CACHE_REMOTE.")
]


@filtering
def export(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The archive to write, a tar file.")],
    keys: Keys = None,
    portable: Annotated[
        bool,
        typer.Option(
            "--portable/--with-executables",
            help="Programs alone, which any machine with the same versions can use and which hold no native code; or "
            "all entries.",
        ),
    ] = False,
    conditions: Filter = EVERYTHING,
    dry_run: DryRun = False,
    yes: Yes = False,
    no_progress: NoProgress = False,
    cache_dir: CacheDir = None,
    json: Json = False,
) -> None:
    """Write entries into one file, for `cache import` on another machine.

    Exits with 5 when some are damaged: these are left out.
    """
    from tpu_dynamo_runtime.store import export_archive

    opened = open_to_read(cache_dir)
    entries = chosen(opened.entries(), keys, conditions)
    if portable:
        entries = [item for item in entries if item.entry.kind in PORTABLE]
    if not entries:
        refuse(f"there is nothing to export in {format_path(opened.directory)}")
    written = []
    if not dry_run:
        if out.exists():
            confirm(f"{out} exists. Write over it?", yes)
        names = [(item.entry.kind, item.entry.key) for item in entries]
        try:
            with progress(not no_progress) as bars:
                exported = bars.track(export_archive(opened.store, names, out), len(names), description="exporting")
                written = [(kind, key) for kind, key, sound in exported if sound]
        except OSError as error:
            refuse(f"{out} cannot be written: {error.strerror or error}", ExitCode.CACHE)
    size = out.stat().st_size if written else sum(item.entry.size for item in entries)
    if json:
        rows = [{"kind": item.entry.kind, "key": item.entry.key, "size": item.entry.size} for item in entries]
        print_json({"archive": str(out), "dry_run": dry_run, "size": size, "entries": rows})
    say(f"{'would export' if dry_run else 'exported'} {count_entries(entries)}, {format_bytes(size)}, to {out}")
    opened.end()


def import_(
    archive: Annotated[Path, typer.Argument(metavar="IN", help="An archive that `cache export` wrote.")],
    dry_run: DryRun = False,
    yes: Yes = False,
    no_progress: NoProgress = False,
    cache_dir: CacheDir = None,
    json: Json = False,
) -> None:
    """Take the entries of an archive into the cache, each checked before.

    What the cache has stays as it is. Exits with 5 when some are damaged, which are refused; the others are taken.
    """
    from tpu_dynamo_runtime.store import BadArchive, archive_members, import_archive

    try:
        members = archive_members(archive)
    except BadArchive as error:
        refuse(str(error), ExitCode.CACHE)
    except OSError as error:
        refuse(f"{archive}: {error.strerror or error}")
    opened = (open_to_read if dry_run else open_to_write)(cache_dir)
    holds = count_by_kind(member.kind for member in members)
    if any(member.kind not in PORTABLE for member in members):
        say(TRUST)
        if not dry_run:
            confirm(f"{archive} holds {holds}. Take them in?", yes)
    if dry_run:
        if json:
            print_json({"dry_run": True, "entries": [{"kind": m.kind, "key": m.key, "size": m.size} for m in members]})
        say(f"would import {holds} into {format_path(opened.directory)}")
        return
    _check_room(opened, [(m.kind, m.key, m.size) for m in members])
    taken = []
    try:
        with progress(not no_progress) as bars:
            for each in bars.track(import_archive(opened.store, archive), len(members), description="importing"):
                taken.append(each)
                if each.problem:
                    say(f"refused {each.name}: {each.problem}")
    except BadArchive as error:
        say(f"tpu-dynamo: {error}; what came before is taken in")
        _show_imported(taken, opened, json)
        end(ExitCode.CACHE)
    _show_imported(taken, opened, json)
    if any(each.outcome in ("damaged", "unwritten") for each in taken):
        end(ExitCode.CACHE)


@filtering
def push(
    keys: Keys = None,
    remote: Remote = None,
    conditions: Filter = EVERYTHING,
    dry_run: DryRun = False,
    no_progress: NoProgress = False,
    cache_dir: CacheDir = None,
    json: Json = False,
) -> None:
    """Write entries to the remote tier, where they are not there already."""
    url = remote_url(remote)
    opened = open_to_read(cache_dir, remote=url)
    entries = chosen(opened.entries(), keys, conditions)
    there = _remote_names(opened) if entries else {}
    missing = [item for item in entries if (item.entry.kind, item.entry.key) not in there]
    done = missing
    if not dry_run:
        with progress(not no_progress) as bars:
            done = [
                item
                for item in bars.track(missing, description="pushing")
                if opened.store.push(item.entry.kind, item.entry.key)
            ]
    if json:
        rows = [{"kind": item.entry.kind, "key": item.entry.key, "size": item.entry.size} for item in done]
        print_json({"remote": url, "dry_run": dry_run, "pushed": rows, "known": len(entries) - len(missing)})
    known = len(entries) - len(missing)
    say(f"{'would push' if dry_run else 'pushed'} {count_entries(done)} to {url}; {known or 'none'} were there already")
    opened.end()


def pull(
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEY", help="Beginnings of keys.")] = None,
    remote: Remote = None,
    kind: Kind = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    no_progress: NoProgress = False,
    cache_dir: CacheDir = None,
    json: Json = False,
) -> None:
    """Take the entries of the remote tier into the cache, each checked before; what the cache has stays."""
    url = remote_url(remote)
    opened = (open_to_read if dry_run else open_to_write)(cache_dir, remote=url)
    if dry_run and opened.store.directory is None:
        refuse(f"there is no cache in {format_path(opened.directory)} yet; without --dry-run it is made")
    mine = {(item.entry.kind, item.entry.key) for item in opened.entries() if item.entry.problem is None}
    prefixes = tuple(key.strip().lower() for key in keys or ("",))
    wanted = {
        (k, key): size
        for (k, key), size in _remote_names(opened).items()
        if key.startswith(prefixes) and kind in (None, k) and (k, key) not in mine
    }
    if wanted and any(k not in PORTABLE for k, _ in wanted):
        say(TRUST)
        if not dry_run:
            confirm(f"Take {format_count(len(wanted), 'entry')} in from {url}?", yes)
    done = list(wanted)
    if not dry_run:
        _check_room(opened, [(*name, size) for name, size in wanted.items()])
        with progress(not no_progress) as bars:
            pulled = bars.track(wanted, description="pulling")
            done = [name for name in pulled if opened.store.get(*name, only=()) is not None]
    if json:
        rows = [{"kind": k, "key": key, "size": wanted[k, key]} for k, key in done]
        print_json({"remote": url, "dry_run": dry_run, "pulled": rows})
    total = format_bytes(sum(wanted[name] for name in done))
    verb = "would pull" if dry_run else "pulled"
    say(f"{verb} {format_count(len(done), 'entry')}, {total}, from {url} into {format_path(opened.directory)}")
    opened.end()


def _remote_names(opened: Opened) -> dict[tuple[str, str], int]:
    found = opened.store.remote_names()
    if found is None:
        opened.end()
    return {(kind, key): size for kind, key, size in found or ()}


def _check_room(opened: Opened, coming: list[tuple[str, str, int]]) -> None:
    """Refuse what is so much that it would push out entries that are there, or itself."""
    from tpu_dynamo_runtime.store import total_bytes

    mine = {(item.entry.kind, item.entry.key) for item in opened.entries()}
    new = sum(size for kind, key, size in coming if (kind, key) not in mine)
    total, most = total_bytes(opened.store) + new, opened.store.max_bytes
    if total > most:
        refuse(
            f"with these the cache would have {format_bytes(total)}, and it may have {format_bytes(most)}, so that "
            "other entries would go\n  try: TPU_DYNAMO_CACHE_MAX_BYTES, or `tpu-dynamo cache prune`",
            ExitCode.CACHE,
        )


def _show_imported(taken: list[Any], opened: Opened, json: bool) -> None:
    outcomes = Counter(each.outcome for each in taken)
    if json:
        rows = [{"name": each.name, "outcome": each.outcome, "problem": each.problem} for each in taken]
        print_json({"dry_run": False, "entries": rows})
    parts = [
        f"{outcomes['new'] or 'no'} new",
        f"{outcomes['known'] or 'none'} known already",
        f"{outcomes['damaged'] or 'none'} refused",
    ]
    if outcomes["unwritten"]:
        parts.append(f"{outcomes['unwritten']} that could not be written")
    say(f"imported into {format_path(opened.directory)}: {', '.join(parts)}")
    for fault, detail in opened.store.faults.details().items():
        if fault not in ("damaged", "misplaced", "foreign_version"):
            say(f"tpu-dynamo: {fault}: {detail}")
