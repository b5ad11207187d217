"""The store: entries found, written, locked and rejected; what goes wrong is counted and never raised."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from filelock import Timeout

from .directory import Directory, open_directory, open_file
from .entry import BadEntry, Entry, check_entry, check_name, encode, read_entry
from .eviction import Eviction
from .faults import Fault, Faults
from .locks import Lock
from .remote import Remote

DEFAULT_MAX_BYTES = 10 << 30
DEFAULT_LOCK_TIMEOUT = 600.0
DEFAULT_REMOTE_TIMEOUT = 30.0
_PUSH_TIMEOUT = 600.0
# The last use is written down at most once in so many seconds.
_USE_GRAIN = 60.0

_T = TypeVar("_T")


def open_store(
    path: Path | None = None,
    *,
    max_bytes: int = DEFAULT_MAX_BYTES,
    read_only: bool = False,
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT,
    remote: str | None = None,
    remote_timeout: float = DEFAULT_REMOTE_TIMEOUT,
    faults: Faults | None = None,
    clock: Callable[[], float] = time.time,
) -> Store:
    """Open the store in the directory `path`, or at `TPU_DYNAMO_CACHE_DIR`, or in the user's cache folder.

    It is off, and holds nothing, where the directory cannot be trusted or made. An executable is native code: whoever
    can write into the directory, or to the URL `remote`, decides what this process runs.

    max_bytes: what the entries may take before the least recently used go. lock_timeout: seconds to wait for another
    process that makes the same entry. remote: a URL that fsspec knows, looked into after a miss. clock: seconds since
    1970, for last uses.
    """
    if max_bytes < 0 or lock_timeout < 0 or remote_timeout < 0:
        raise ValueError(f"sizes and times cannot be negative: {max_bytes}, {lock_timeout}, {remote_timeout}")
    faults = faults or Faults()
    directory = open_directory(path, read_only, faults)
    tier = Remote(remote, remote_timeout, faults) if remote else None
    return Store(directory, tier, max_bytes, lock_timeout, faults, clock)


class Store:
    """Entries by kind and key, shared by processes. Only names and values that no entry can have raise.

    directory: None for a store that is off: every look is a miss and nothing is written.
    """

    def __init__(
        self,
        directory: Directory | None,
        remote: Remote | None,
        max_bytes: int,
        lock_timeout: float,
        faults: Faults,
        clock: Callable[[], float],
    ):
        self.directory = directory
        self.faults = faults
        self.max_bytes = max_bytes
        self.clock = clock
        self.eviction = Eviction(directory, max_bytes, clock) if directory else None
        self._remote = remote
        self._lock_timeout = lock_timeout
        self._counted_read_only = False

    @property
    def has_remote(self) -> bool:
        """True if there is a remote tier to look into."""
        return self._remote is not None and self.directory is not None

    def get(self, kind: str, key: str, only: Collection[str] | None = None, *, remote: bool = True) -> Entry | None:
        """Read an entry, checked; None where there is none that is sound.

        only: the sections to read, if not all. remote: whether to look into the remote tier after a miss; what is
        found there is checked, stored here and given.
        """
        check_name(kind, key)

        def read(file: BinaryIO) -> Entry:
            entry = read_entry(file, kind, key, only)
            self._use(file, kind, key)
            return entry

        entry = self.examine(kind, key, read)
        if entry is None and remote and self._remote is not None and self.directory is not None:
            entry = self._fetched(self._remote, kind, key, only)
        return entry

    def put(self, kind: str, key: str, sections: Mapping[str, bytes], metadata: Mapping[str, Any]) -> bool:
        """Write an entry, in the place of an earlier one; return True if that is done.

        Raises ValueError or TypeError for names that are none and for metadata that JSON cannot hold.
        """
        check_name(kind, key)
        if not self.may_write():
            return False
        try:
            return self.put_file(kind, key, encode(kind, key, sections, metadata, int(self.clock())))
        except BadEntry as bad:
            self.faults.count(bad.fault, f"{kind} {key}: {bad}")
        except MemoryError as error:
            self.faults.count_unwritten(error, f"{kind} {key}")
        return False

    def reject(self, kind: str, key: str, why: str) -> None:
        """Quarantine an entry that is sound and yet of no use, such as one whose executable PJRT refuses."""
        check_name(kind, key)
        self._quarantine(kind, key, BadEntry(Fault.REJECTED, why))

    @contextmanager
    def exclusive(self, kind: str, key: str) -> Iterator[bool]:
        """Hold the right to make an entry, among all processes of this machine and all threads.

        Look again once inside, `get(..., remote=False)`: who held it before may have made the entry. Gives False where
        the holder takes longer than the store's timeout, where locks fail (both counted) and where nothing can be
        written: then the entry is made twice, which is harmless. Not for an entry within itself.
        """
        check_name(kind, key)
        lock = self._acquired(kind, key)
        try:
            yield lock is not None
        finally:
            if lock is not None:
                try:
                    lock.release()
                except OSError as error:
                    self.faults.count(Fault.LOCK_FAILED, f"{kind} {key}: {error}")

    def push(self, kind: str, key: str) -> bool:
        """Check an entry and write it to the remote tier; return True if that is done."""
        if self._remote is None:
            raise ValueError("this store has no remote tier to push to")
        data = self.get_file(kind, key)
        return data is not None and self._remote.push(kind, key, data, _PUSH_TIMEOUT)

    def remote_names(self) -> list[tuple[str, str, int]] | None:
        """List the kind, key and size of the remote tier's entries; None where that cannot be found out."""
        if self._remote is None:
            raise ValueError("this store has no remote tier")
        return self._remote.names(_PUSH_TIMEOUT)

    def get_file(self, kind: str, key: str) -> bytes | None:
        """Read the bytes of an entry's file, checked; None where there is none that is sound."""

        def read(file: BinaryIO) -> bytes:
            check_entry(file, kind, key)
            file.seek(0)
            return file.read()

        return self.examine(kind, key, read)

    def put_file(self, kind: str, key: str, pieces: Sequence[bytes]) -> bool:
        """Write an entry's file, which was checked or just made; return True if that is done."""
        if self.directory is None or self.eviction is None or not self.may_write():
            return False
        if (size := sum(map(len, pieces))) > self.max_bytes:
            self.faults.count(Fault.TOO_LARGE, f"{kind} {key} has {size} bytes, the store at most {self.max_bytes}")
            return False
        try:
            self._prepare(self.directory)
            self.directory.write(self.directory.path(kind, key), pieces, self.clock())
        except OSError as error:
            self.faults.count_unwritten(error, f"{kind} {key}")
            return False
        self.eviction.added(size)
        return True

    def may_write(self) -> bool:
        """Return True if anything can be written; that it cannot is counted as a fault once."""
        if self.directory is not None and not self.directory.writable and not self._counted_read_only:
            self._counted_read_only = True
            self.faults.count(Fault.READ_ONLY, f"{self.directory.root} is only read: nothing new is kept")
        return self.directory is not None and self.directory.writable

    def examine(self, kind: str, key: str, read: Callable[[BinaryIO], _T]) -> _T | None:
        """Return what `read` makes of an entry's file; None if it is missing, or unfit and therefore quarantined.

        read: may raise BadEntry and OSError.
        """
        check_name(kind, key)
        if self.directory is None:
            return None
        status = None
        try:
            with open_file(self.directory.path(kind, key)) as file:
                status = os.fstat(file.fileno())
                return read(file)
        except FileNotFoundError:
            if not os.path.isdir(self.directory.root):
                self.faults.count(Fault.DIRECTORY_GONE, f"{self.directory.root} was removed")
        except BadEntry as bad:
            self._quarantine(kind, key, bad, status)
        except (OSError, MemoryError) as error:
            self.faults.count(Fault.UNREADABLE, f"{kind} {key}: {error}")
        return None

    def _fetched(self, remote: Remote, kind: str, key: str, only: Collection[str] | None) -> Entry | None:
        data = remote.fetch(kind, key)
        if data is None:
            return None
        try:
            entry = read_entry(io.BytesIO(data), kind, key)
        except BadEntry as bad:
            self.faults.count(Fault.REMOTE_DAMAGED, f"{kind} {key}: {bad}")
            return None
        self.put_file(kind, key, [data])
        asked = {name: content for name, content in entry.sections.items() if only is None or name in only}
        return Entry(entry.header, asked)

    def _use(self, file: BinaryIO, kind: str, key: str) -> None:
        """Note that an entry is used, for the sake of eviction."""
        now = self.clock()
        try:
            since = now - os.fstat(file.fileno()).st_mtime
            if self.directory and self.directory.writable and not 0 <= since < _USE_GRAIN:
                os.utime(file.fileno(), (now, now))
        except OSError as error:
            self.faults.count_unwritten(error, f"{kind} {key}")

    def _quarantine(self, kind: str, key: str, bad: BadEntry, status: os.stat_result | None = None) -> None:
        if self.directory is None or self.eviction is None:
            return
        self.faults.count(bad.fault, f"{kind} {key}: {bad}")
        if self.directory.writable:
            try:
                self.directory.quarantine(kind, key, status)
                self.eviction.bound_quarantine()
            except FileNotFoundError:
                pass  # somebody else was first
            except OSError as error:
                self.faults.count_unwritten(error, f"{kind} {key}")

    def _acquired(self, kind: str, key: str) -> Lock | None:
        if self.directory is None or not self.may_write():
            return None
        try:
            self._prepare(self.directory)
            return self.directory.acquire(kind, key, self._lock_timeout)
        except Timeout:
            self.faults.count(Fault.LOCK_TIMEOUT, f"{kind} {key} is still being made after {self._lock_timeout:.0f} s")
        except (OSError, NotImplementedError) as error:
            self.faults.count(Fault.LOCK_FAILED, f"{kind} {key}: {error}")
        return None

    def _prepare(self, directory: Directory) -> None:
        if directory.prepare():
            self.faults.count(Fault.DIRECTORY_GONE, f"{directory.root} was removed; it is made anew")
