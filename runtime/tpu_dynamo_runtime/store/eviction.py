"""Removal of least recently used entries and of leftovers, so that a directory keeps to its size."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

from .directory import Directory, File
from .faults import Fault
from .locks import acquire

# A last use that is further ahead than this is a clock's fault; clocks of two machines are never quite equal.
_SKEW = 60.0
# A writer that has not finished after this long is dead, and so is the holder whose lock file is still there unlocked.
_ABANDONED = 3600.0
_QUARANTINE_FILES = 16
# The directory is listed when a process has added this part of the cap, or so many entries; listing costs about 16
# us an entry.
_LISTED_EACH = 1 / 32
_LISTED_EACH_ENTRIES = 64
# Evicting below the cap leaves room for the next entries, so that not each one evicts.
_KEPT = 0.9


class Eviction:
    """Keeps a directory below `max_bytes`, give or take what several processes add at the same time."""

    def __init__(self, directory: Directory, max_bytes: int, clock: Callable[[], float]):
        self._directory = directory
        self._max_bytes = max_bytes
        self._faults = directory.faults
        self._clock = clock
        # Unknown at first: what the process finds may be over the cap already.
        self._added_bytes = max_bytes
        self._added_entries = 0

    def added(self, size: int) -> None:
        """Take note of an entry that was written, and evict when it is time to look."""
        self._added_bytes += size
        self._added_entries += 1
        if self._added_bytes > self._max_bytes * _LISTED_EACH or self._added_entries >= _LISTED_EACH_ENTRIES:
            self._added_bytes = self._added_entries = 0
            files = self.settle()
            if sum(file.size for file in files) > self._max_bytes:
                # Never the entry that was just written, which may be larger than what is kept else.
                self.evict(files, max(self._max_bytes * _KEPT, size))

    def settle(self) -> list[File]:
        """Remove leftovers, set last uses that lie in the future to now, and return the entries' files.

        A last use in the future would keep its entry until the future comes; set to now, it ages like any other.
        """
        now, entries = self._clock(), []
        for file in self._directory.files():
            if file.last_use > now + _SKEW:
                self._faults.count(Fault.CLOCK, f"{file.path} was last used {file.last_use - now:.0f} s from now")
                file = self._used_now(file, now)
            if not file.temporary:
                entries.append(file)
            elif file.last_use < now - _ABANDONED:
                self.remove(file)
        self._sweep_locks(now)
        self.bound_quarantine()
        return entries

    def evict(self, files: Iterable[File], max_bytes: float, used_since: float = float("-inf")) -> int:
        """Remove the least recently used until at most `max_bytes` are left, none of them unused since `used_since`.

        Gives the number of entries removed. An entry that a reader has open stays readable for it. One that was used
        after it was listed is spared.
        """
        files = sorted(files, key=lambda file: file.last_use)
        left, removed = sum(file.size for file in files), 0
        for file in files:
            if left <= max_bytes and file.last_use >= used_since:
                break
            if self.remove(file):
                left -= file.size
                removed += 1
        return removed

    def bound_quarantine(self, keep: int = _QUARANTINE_FILES) -> None:
        """Keep the newest files in quarantine: at most `keep`, and a small part of the cap."""
        kept_bytes = 0
        newest_first = sorted(self._directory.quarantined(), key=lambda file: -file.last_use)
        for i, file in enumerate(newest_first):
            kept_bytes += file.size
            if i >= keep or kept_bytes > self._max_bytes * (1 - _KEPT):
                self.remove(file)

    def _sweep_locks(self, now: float) -> None:
        for file in self._directory.lock_files():
            if file.last_use < now - _ABANDONED:
                # Who acquires a lock and releases it removes its file. Where it cannot be had, it is in use.
                with suppress(OSError, NotImplementedError):
                    acquire(file.path, timeout=0).release()

    def _used_now(self, file: File, now: float) -> File:
        try:
            os.utime(file.path, (now, now), follow_symlinks=False)
            return replace(file, last_use=os.lstat(file.path).st_mtime)
        except FileNotFoundError:
            return file
        except OSError as error:
            self._faults.count_unwritten(error, f"{file.path}")
            return replace(file, last_use=now)

    def remove(self, file: File) -> bool:
        """Remove a file unless it was used, or replaced, since it was listed; return True if it is gone."""
        try:
            if os.lstat(file.path).st_mtime != file.last_use:
                return False
            os.unlink(file.path)
        except FileNotFoundError:
            return True
        except OSError as error:
            self._faults.count_unwritten(error, f"{file.path}")
            return False
        return True
