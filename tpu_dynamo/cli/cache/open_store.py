"""The store as the verbs of `cache` open it, and how they end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tpu_dynamo.cache.entries import Described, describe
from tpu_dynamo.formatting import format_count, format_path

from ..console import say
from ..exit_codes import ExitCode, end, refuse

if TYPE_CHECKING:
    from tpu_dynamo_runtime.store import Store


@dataclass(frozen=True)
class Opened:
    """A store, and the directory that it is in; there may be none yet, and then there are no entries."""

    store: Store
    directory: Path

    def entries(self) -> list[Described]:
        """Return all entries, the latest used first."""
        from tpu_dynamo_runtime.store import entries

        return sorted(describe(entries(self.store)), key=lambda item: -item.entry.last_use)

    def end(self) -> None:
        """Print what went wrong with the store, and exit with 5 if something did."""
        details = self.store.faults.details()
        for fault, detail in details.items():
            say(f"tpu-dynamo: {fault}: {detail}")
        if details:
            end(ExitCode.CACHE)


def open_to_read(directory: Path | None, *, remote: str | None = None) -> Opened:
    """Open the store without changing anything: no last use, no quarantine. Refuses one that cannot be trusted."""
    return _open(directory, read_only=True, remote=remote)


def open_to_write(directory: Path | None, *, remote: str | None = None) -> Opened:
    """Open the store to change it. Refuses one that cannot be trusted or cannot be written to."""
    opened = _open(directory, read_only=False, remote=remote)
    if opened.store.directory is None or not opened.store.directory.writable:
        from tpu_dynamo.cache.settings import cache_settings

        why = "TPU_DYNAMO_CACHE says so" if cache_settings().read_only else "this user may not write to it"
        refuse(f"{format_path(opened.directory)} can only be read: {why}", ExitCode.CACHE)
    return opened


def remote_url(given: str | None) -> str:
    """Return the remote tier's URL: the given one, else TPU_DYNAMO_CACHE_REMOTE. Refuses where there is neither."""
    from tpu_dynamo.cache.settings import cache_settings

    url = given or cache_settings().remote
    if url is None:
        refuse("there is no remote tier: give --remote URL, or set TPU_DYNAMO_CACHE_REMOTE")
    return url


def count_by_kind(kinds: Iterable[str]) -> str:
    """Return how many entries there are of each kind, as `3 programs and 2 executables`; kinds: of each entry."""
    counts = sorted(Counter(kinds).items(), reverse=True)
    return " and ".join(format_count(number, kind) for kind, number in counts) or "no entries"


def count_entries(entries: Iterable[Described]) -> str:
    """Return how many of these entries are of each kind, as count_by_kind does."""
    return count_by_kind(item.entry.kind for item in entries)


def _open(directory: Path | None, read_only: bool, remote: str | None) -> Opened:
    from tpu_dynamo.cache.settings import cache_settings
    from tpu_dynamo_runtime.store import Faults, default_path, open_store

    settings = cache_settings()
    try:
        path = (directory or settings.directory or default_path()).expanduser()
    except RuntimeError as error:  # no home
        refuse(f"{error}; set TPU_DYNAMO_CACHE_DIR", ExitCode.CACHE)
    faults = Faults(logged=False)
    only = read_only or settings.read_only
    store = open_store(path, max_bytes=settings.max_bytes, read_only=only, remote=remote, faults=faults)
    if store.directory is None and (not only or path.exists()):
        refuse(f"the cache cannot be used: {faults.details()['directory_refused']}", ExitCode.CACHE)
    if store.directory is None:
        # It was never made, which is no fault.
        return Opened(_empty_store(), path)
    return Opened(store, path)


def _empty_store() -> Store:
    """Make a store without a directory, which holds nothing."""
    from tpu_dynamo_runtime.store import Faults, Store

    return Store(None, None, 0, 0.0, Faults(logged=False), lambda: 0.0)
