"""One holder of a name among all processes and threads of a machine."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger("tpu_dynamo.runtime")


class Lock:
    """A lock that is held, as a file that goes when the lock is released.

    A lock on a file that is no longer at its path excludes nobody, since the next comer locks a new one. So two rules
    make removal safe. Only the holder removes the file, while holding. And who has acquired looks whether the file at
    the path is still the one that was there before: if so, it was locked, and no other than the holder will remove it;
    if not, the holder before removed it in between, and acquiring begins anew.
    """

    def __init__(self, path: Path, lock: FileLock):
        self._path = path
        self._lock = lock
        self._process = os.getpid()

    def release(self) -> None:
        """Remove the file, then let go; nothing in a forked child, which does not hold it. Raises OSError."""
        if os.getpid() != self._process:
            return
        try:
            with suppress(FileNotFoundError):
                os.unlink(self._path)
        finally:
            self._lock.release()


def acquire(path: Path, timeout: float) -> Lock:
    """Acquire the lock at `path`, whose folder exists; a holder that dies lets go of it.

    Raises filelock's Timeout when another holds it for `timeout` seconds, and OSError or NotImplementedError when the
    file system refuses.
    """
    deadline = time.monotonic() + timeout
    lock = FileLock(path, mode=0o600)
    while True:
        held = False
        with _opened(path) as before:
            try:
                _wait(lock, path, max(0.0, deadline - time.monotonic()))
                held = os.path.samestat(before, os.stat(path))
            except FileNotFoundError:
                # Removed by its holder just now; where the folder is gone too, opening raises.
                pass
            finally:
                if not held:
                    lock.release()  # without effect where it was not acquired
        if held:
            return Lock(path, lock)


@contextmanager
def _opened(path: Path) -> Iterator[os.stat_result]:
    """Open the file at a path, made if it is missing, and keep it open: no other file can get its inode number."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            # Changes nothing, and raises where the file system has no locks. There, filelock would take the file itself
            # for a lock that somebody holds.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        except OSError:
            os.unlink(path)
            raise
        yield os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _wait(lock: FileLock, path: Path, timeout: float) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not timeout:
            raise
        log.info("another process or thread works on %s; waiting for it, at most %.0f s", path.name, timeout)
        lock.acquire(timeout=timeout)
