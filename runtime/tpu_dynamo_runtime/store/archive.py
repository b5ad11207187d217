"""Entries in one file, to be carried to another machine: a plain tar of the entries' files, under their names.

Whoever made an archive decides what its executables do: take in only what you trust. Nothing in it is believed: of
its members only plain files with the name of an entry are read, none longer than an entry can be, and each is checked
as a whole, as an entry of the store is.
"""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .entry import CONTENT_LIMIT, HEADER_LIMIT, BadEntry, check_entry, is_name
from .faults import Fault
from .store import Store

_LIMIT = CONTENT_LIMIT + HEADER_LIMIT


class BadArchive(ValueError):
    """A file that is no archive, or one that was cut."""


@dataclass(frozen=True)
class Member:
    """An entry in an archive, by its name there; size: bytes of its file."""

    kind: str
    key: str
    size: int


@dataclass(frozen=True)
class TakenIn:
    """The result of importing a member: `new`, `known` (the store had it), `damaged` or `unwritten`; problem: why."""

    name: str
    outcome: str
    problem: str | None = None


def export_archive(
    store: Store, names: Iterable[tuple[str, str]], destination: Path
) -> Iterator[tuple[str, str, bool]]:
    """Write entries to an archive, and give for each its kind, its key and whether it is sound and therefore there.

    The file appears when all are written; equal entries make equal files. Raises OSError where it cannot be written.
    """
    folder = destination.parent
    descriptor, temporary = tempfile.mkstemp(prefix=f".{destination.name}.", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                for kind, key in sorted(names):
                    data = store.get_file(kind, key)
                    if data is not None:
                        member = tarfile.TarInfo(f"entries/{kind}/{key[:2]}/{key}")
                        member.size, member.mode = len(data), 0o600
                        archive.addfile(member, io.BytesIO(data))
                    yield kind, key, data is not None
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, destination)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def archive_members(source: Path) -> list[Member]:
    """List the members of an archive by its table of contents; no entry is read. Raises BadArchive and OSError."""
    with _opened(source) as archive:
        return [Member(*name, member.size) for member in _members(archive) if (name := _entry_name(member))]


def import_archive(store: Store, source: Path) -> Iterator[TakenIn]:
    """Take the entries of an archive into a store, each checked before; yield the result of each.

    An entry that the store has, sound, stays as it is. Raises BadArchive, after the members before, and OSError.
    """
    with _opened(source) as archive:
        for member in _members(archive):
            yield _taken(store, archive, member)


def _taken(store: Store, archive: tarfile.TarFile, member: tarfile.TarInfo) -> TakenIn:
    name = _entry_name(member)
    if name is None:
        return TakenIn(member.name, "damaged", "it is no entry")
    kind, key = name
    try:
        with archive.extractfile(member) or io.BytesIO() as file:
            data = file.read()
        check_entry(io.BytesIO(data), kind, key)
    except BadEntry as bad:
        store.faults.count(bad.fault, f"{_name(archive)}: {member.name}: {bad}")
        return TakenIn(member.name, "damaged", str(bad))
    except MemoryError as error:
        store.faults.count(Fault.UNREADABLE, f"{_name(archive)}: {member.name}: {error}")
        return TakenIn(member.name, "damaged", "it is larger than memory")
    if store.get_file(kind, key) is not None:
        return TakenIn(member.name, "known")
    if not store.put_file(kind, key, [data]):
        return TakenIn(member.name, "unwritten")
    return TakenIn(member.name, "new")


def _name(archive: tarfile.TarFile) -> str:
    """Return the path of an open archive."""
    return str(archive.name)


def _opened(source: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(source, mode="r:")
    except tarfile.TarError as error:
        raise BadArchive(f"{source} is no archive of entries: {error}") from error


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    size = os.stat(_name(archive)).st_size
    while True:
        try:
            member = archive.next()
        except tarfile.TarError as error:
            raise BadArchive(f"{_name(archive)} is cut or damaged: {error}") from error
        if member is None:
            break
        if member.offset_data + member.size > size:
            raise BadArchive(f"{_name(archive)} is cut: {member.name} ends after its end")
        yield member
    # Without the blocks of zeros at its end, an archive was cut between two members.
    with open(_name(archive), "rb") as file:
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise BadArchive(f"{_name(archive)} is cut: its end is missing")


def _entry_name(member: tarfile.TarInfo) -> tuple[str, str] | None:
    """Return the kind and key of a member that can be an entry; None for others."""
    parts = member.name.split("/")
    if member.type != tarfile.REGTYPE or member.issparse() or len(parts) != 4 or member.size > _LIMIT:
        return None
    top, kind, shard, key = parts
    return (kind, key) if top == "entries" and is_name(kind, key) and shard == key[:2] else None
