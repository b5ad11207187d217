"""The cache: its directory, who may write to it, what is in it and what room there is."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from tpu_dynamo.cache.settings import CacheSettings, cache_settings
from tpu_dynamo.formatting import format_bytes, format_count, format_path
from tpu_dynamo_runtime.store import Faults, default_path, entries, open_store

from .check import Check

GROUP = "Cache"
# Less room than this and a single executable of a large model may not fit.
_ROOM = 1 << 30


def checks(directory: Path | None = None) -> Iterator[Check]:
    """Check the cache in `directory`, or the one that the environment names."""
    settings = cache_settings()
    try:
        path = (directory or settings.directory or default_path()).expanduser()
    except RuntimeError as error:
        advice = "set TPU_DYNAMO_CACHE_DIR to a folder of yours"
        yield Check(GROUP, "directory", "error", f"there is none: {error}", advice)
        return
    if not settings.enabled:
        found = "off, as TPU_DYNAMO_CACHE says: every process compiles everything"
        yield Check(GROUP, "use", "note", found, facts={"enabled": False})
    yield from _directory(path, settings)
    yield from _room(path, settings)
    remote = settings.remote or "none; TPU_DYNAMO_CACHE_REMOTE names one"
    yield Check(GROUP, "remote tier", "ok" if settings.remote else "note", remote, facts={"remote": settings.remote})


def _directory(path: Path, settings: CacheSettings) -> Iterator[Check]:
    facts: dict[str, object] = {"directory": format_path(path)}
    if not path.exists():
        above = next((parent for parent in path.parents if parent.exists()), Path("/"))
        if os.access(above, os.W_OK | os.X_OK):
            yield Check(GROUP, "directory", "ok", f"{format_path(path)}, which is made when it is needed", facts=facts)
        else:
            found = f"{format_path(path)} cannot be made: no right to write to {format_path(above)}"
            yield Check(GROUP, "directory", "warning", found, "set TPU_DYNAMO_CACHE_DIR to a folder of yours", facts)
        return
    faults = Faults(logged=False)
    store = open_store(path, max_bytes=settings.max_bytes, read_only=True, faults=faults)
    mode = stat.S_IMODE(path.stat().st_mode)
    facts |= {"mode": f"{mode:04o}", "owner": path.stat().st_uid}
    if store.directory is None:
        why = faults.details().get("directory_refused", "it cannot be used")
        advice = (
            f"chmod 700 {format_path(path)}, if it is yours alone, or set TPU_DYNAMO_CACHE_DIR to a folder of yours"
        )
        yield Check(GROUP, "directory", "warning", f"refused, so nothing is kept: {why}", advice, facts)
        return
    writable = os.access(path, os.W_OK | os.X_OK)
    can = "" if writable else ", which you can only read: nothing new is kept"
    yield Check(
        GROUP, "directory", "ok", f"{format_path(path)} (mode {mode:04o}){can}", facts=facts | {"writable": writable}
    )
    listed = list(entries(store))
    total, bad = sum(item.size for item in listed), [item for item in listed if item.problem]
    found = f"{format_count(len(listed), 'entry')}, {format_bytes(total)} of at most {format_bytes(settings.max_bytes)}"
    facts = {"entries": len(listed), "bytes": total, "max_bytes": settings.max_bytes, "unreadable": len(bad)}
    if bad:
        advice = "tpu-dynamo cache verify --repair"
        yield Check(GROUP, "entries", "warning", f"{found}; {len(bad)} cannot be read", advice, facts)
    else:
        yield Check(GROUP, "entries", "ok", found, facts=facts)


def _room(path: Path, settings: CacheSettings) -> Iterator[Check]:
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    facts = {"free_bytes": free}
    if free < min(_ROOM, settings.max_bytes):
        advice = "make room, set TPU_DYNAMO_CACHE_DIR, or `tpu-dynamo cache prune --max-size 1GiB`"
        yield Check(GROUP, "free space", "warning", f"{format_bytes(free)} on its disk", advice, facts)
    else:
        yield Check(GROUP, "free space", "ok", f"{format_bytes(free)} on its disk", facts=facts)
