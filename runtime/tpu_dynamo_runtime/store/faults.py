"""The faults of a store, counted by name and logged once each; none of them reaches the user as an error."""

from __future__ import annotations

import errno
import logging
import threading
from collections import Counter
from enum import StrEnum

log = logging.getLogger("tpu_dynamo.runtime")


class Fault(StrEnum):
    """The names under which faults are counted."""

    DAMAGED = "damaged"  # a file is not what was written: truncated, bits flipped, or never an entry
    FOREIGN_VERSION = "foreign_version"  # an entry of another schema version
    MISPLACED = "misplaced"  # a sound entry under another entry's name
    UNTRUSTED = "untrusted"  # a file that somebody else owns or may write to
    REJECTED = "rejected"  # a sound entry that its user cannot use
    UNREADABLE = "unreadable"  # the operating system refuses to read
    UNWRITABLE = "unwritable"  # the operating system refuses to write
    DISK_FULL = "disk_full"  # no room, or a quota is spent
    TOO_LARGE = "too_large"  # an entry beyond the size cap or the format's limits
    READ_ONLY = "read_only"  # something would have been written into a cache that is only read
    LOCK_TIMEOUT = "lock_timeout"  # the holder of a lock took too long, so the work is done twice
    LOCK_FAILED = "lock_failed"  # the operating system refuses the lock, so work may be done twice
    CLOCK = "clock"  # a last use that lies in the future
    DIRECTORY_REFUSED = "directory_refused"  # no directory that can be trusted: the store is off
    DIRECTORY_GONE = "directory_gone"  # the directory was removed under a running process
    REMOTE_FAILED = "remote_failed"  # the remote tier answered with an error
    REMOTE_SLOW = "remote_slow"  # the remote tier did not answer in time
    REMOTE_DAMAGED = "remote_damaged"  # what the remote tier gave is not the entry that was asked for


class Faults:
    """Counts of faults, with the last detail of each; many threads may count.

    logged: False for one who tells of them himself.
    """

    def __init__(self, logged: bool = True):
        self._logged = logged
        self._lock = threading.Lock()
        self._counts: Counter[Fault] = Counter()
        self._details: dict[Fault, str] = {}

    def count(self, fault: Fault, detail: str) -> None:
        """Count a fault; the first of its kind is a warning in the log, the others are for debugging."""
        with self._lock:
            self._counts[fault] += 1
            self._details[fault] = detail
            first = self._counts[fault] == 1
        if self._logged:
            log.log(logging.WARNING if first else logging.DEBUG, "store: %s: %s", fault, detail)

    def count_unwritten(self, error: OSError | MemoryError, detail: str) -> None:
        """Count a write that failed: for want of room, or because it is refused."""
        # A limit on the size of files is told as EFBIG.
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        self.count(Fault.DISK_FULL if full else Fault.UNWRITABLE, f"{detail}: {error}")

    def __getitem__(self, fault: Fault) -> int:
        return self._counts[fault]

    def counts(self) -> dict[str, int]:
        """Return the number of times that each fault has happened; those that never did are left out."""
        with self._lock:
            return {str(fault): count for fault, count in sorted(self._counts.items())}

    def details(self) -> dict[str, str]:
        """Return the last detail of each fault that has happened."""
        with self._lock:
            return {str(fault): detail for fault, detail in sorted(self._details.items())}
