"""Maintenance of a store as a whole: list, check, prune and empty it, export and import entries."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .directory import File, open_file
from .entry import BadEntry, Header, check_entry, check_name, read_header
from .faults import Fault
from .store import Store


@dataclass(frozen=True)
class Listed:
    """An entry as a listing shows it. header: None where it cannot be read, and then `problem` says why."""

    kind: str
    key: str
    size: int
    last_use: float
    header: Header | None
    problem: str | None


def entries(store: Store, kind: str | None = None) -> Iterator[Listed]:
    """List the entries of a store, or those of one kind, with their headers; sections are not read, no use is noted."""
    for file in _files(store):
        if kind is None or file.kind == kind:
            header, problem = None, None
            try:
                with open_file(file.path) as opened:
                    header = read_header(opened)
            except FileNotFoundError:
                continue  # evicted meanwhile
            except (BadEntry, OSError) as error:
                problem = str(error)
            yield Listed(file.kind, file.key, file.size, file.last_use, header, problem)


def latest(store: Store, kind: str, count: int) -> list[Header]:
    """Return the headers of the `count` entries of one kind that were used last, latest first, without unsound ones."""
    files = sorted((file for file in _files(store) if file.kind == kind), key=lambda file: -file.last_use)
    found = []
    for file in files[:count]:
        try:
            with open_file(file.path) as opened:
                found.append(read_header(opened))
        except (BadEntry, OSError):
            continue  # whoever asks for that entry finds out
    return found


def total_bytes(store: Store) -> int:
    """Sum up the bytes that the entries take on the disk."""
    return sum(file.size for file in _files(store))


def verify(store: Store, kind: str, key: str, *, repair: bool = False) -> str | None:
    """Explain what is wrong with an entry; None if it is sound or missing. repair: count it, quarantine the entry."""
    check_name(kind, key)
    if store.directory is None:
        return None
    try:
        with open_file(store.directory.path(kind, key)) as file:
            check_entry(file, kind, key)
    except FileNotFoundError:
        return None
    except (BadEntry, OSError) as error:
        if repair:
            store.examine(kind, key, lambda file: check_entry(file, kind, key))
        return str(error)
    return None


def verify_all(store: Store, *, repair: bool = False) -> Iterator[tuple[str, str, str]]:
    """Yield the kind, key and problem of each entry that is not sound."""
    for file in _files(store):
        if problem := verify(store, file.kind, file.key, repair=repair):
            yield file.kind, file.key, problem


def remove(store: Store, kind: str, key: str) -> bool:
    """Remove an entry; return True if there was one and it is gone."""
    check_name(kind, key)
    if store.directory is None or not store.may_write():
        return False
    try:
        store.directory.path(kind, key).unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        store.faults.count_unwritten(error, f"{kind} {key}")
        return False
    return True


def discard(store: Store, listed: Listed) -> bool:
    """Remove an entry unless it was used, or replaced, since it was listed; return True if it is gone."""
    if store.directory is None or store.eviction is None or not store.may_write():
        return False
    path = store.directory.path(listed.kind, listed.key)
    return store.eviction.remove(File(path, listed.size, listed.last_use))


def to_prune(
    listed: Iterable[Listed], now: float, *, max_bytes: int | None = None, max_age: float | None = None
) -> list[Listed]:
    """Select the entries unused for `max_age` seconds, and the least recently used until at most `max_bytes` are left.

    now: seconds since 1970. The longest unused comes first.
    """
    oldest_first = sorted(listed, key=lambda item: item.last_use)
    left, found = sum(item.size for item in oldest_first), []
    for item in oldest_first:
        aged = max_age is not None and item.last_use < now - max_age
        if aged or (max_bytes is not None and left > max_bytes):
            found.append(item)
            left -= item.size
    return found


def prune(store: Store, *, max_bytes: int | None = None, max_age: float | None = None) -> int:
    """Remove entries unused for `max_age` seconds, then the least recently used until at most `max_bytes` are left.

    Gives the number of entries removed. Leftovers of writers that died long ago go too.
    """
    if store.eviction is None or not store.may_write():
        return 0
    return store.eviction.evict(
        store.eviction.settle(),
        float("inf") if max_bytes is None else max_bytes,
        float("-inf") if max_age is None else store.clock() - max_age,
    )


def clear(store: Store) -> int:
    """Remove all entries, and the files in quarantine; return the number of entries removed.

    Files that are being written and locks stay: they belong to processes at work.
    """
    if store.eviction is None or not store.may_write():
        return 0
    store.eviction.bound_quarantine(keep=0)
    return prune(store, max_bytes=0)


def export_entry(store: Store, kind: str, key: str, destination: Path) -> bool:
    """Check an entry's file and write it to `destination`; return True if that is done."""
    data = store.get_file(kind, key)
    if data is None:
        return False
    try:
        destination.write_bytes(data)
    except OSError as error:
        store.faults.count_unwritten(error, f"{destination}")
        return False
    return True


def import_entry(store: Store, source: Path) -> Header | None:
    """Take an entry's file, checked before, into the store; None where it is unfit or cannot be written.

    Whoever made the file decides what its executable does: import only what you trust.
    """
    try:
        data = source.read_bytes()
    except (OSError, MemoryError) as error:
        store.faults.count(Fault.UNREADABLE, f"{source}: {error}")
        return None
    return import_data(store, data, str(source))


def import_data(store: Store, data: bytes, source: str) -> Header | None:
    """Take an entry's file, already read into `data`, into the store. source: where it is from, for the log."""
    try:
        file = io.BytesIO(data)
        header = read_header(file)
        check_entry(file, header.kind, header.key)
    except BadEntry as bad:
        store.faults.count(bad.fault, f"{source}: {bad}")
        return None
    except MemoryError as error:
        store.faults.count(Fault.UNREADABLE, f"{source}: {error}")
        return None
    return header if store.put_file(header.kind, header.key, [data]) else None


def _files(store: Store) -> Iterator[File]:
    if store.directory is not None:
        yield from (file for file in store.directory.files() if not file.temporary)
