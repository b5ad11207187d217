"""The connection of a process to its job: small values by name, which any process writes and any reads."""

from __future__ import annotations

import atexit
import logging
import sys
import time
from collections.abc import Callable

from tpu_dynamo_runtime import Job, XlaRuntimeError, join_job, leave_job

log = logging.getLogger("tpu_dynamo.distributed")

# How often a wait looks whether it is in vain, in seconds.
_GLANCE = 1.0
# A value of 100 MB in one message keeps heartbeats from their way for so long that ranks count as dead.
_PIECE = 1 << 20


class Link:
    """The values of one job, kept by rank 0's coordination service.

    Names are used once: a value stays as it was written. Once rank 0 has died every method raises XlaRuntimeError.
    """

    def __init__(self, job: Job):
        self.job = job
        self._connection = join_job(job)

    def put(self, name: str, value: bytes) -> None:
        """Write a value."""
        self._connection.key_value_set_bytes(name, value, True)

    def put_large(self, name: str, value: bytes) -> None:
        """Write a value of any size, in pieces; where several ranks write it, the last one's is read."""
        pieces = range(0, len(value), _PIECE)
        for number, start in enumerate(pieces):
            self.put(f"{name}/{self.job.rank}/{number}", value[start : start + _PIECE])
        self.put(name, f"{self.job.rank} {len(pieces)}".encode())

    def claim(self, name: str) -> int:
        """Return the rank that was the first to claim a name: this one's where no other was before it."""
        try:
            self._connection.key_value_set_bytes(name, str(self.job.rank).encode(), False)
        except XlaRuntimeError as error:
            if "ALREADY_EXISTS" not in str(error):
                raise
            return int(self._connection.key_value_try_get_bytes(name))
        return self.job.rank

    def look(self, name: str) -> bytes | None:
        """Return a value if it was written."""
        try:
            return self._connection.key_value_try_get_bytes(name)
        except XlaRuntimeError as error:
            if "NOT_FOUND" in str(error):
                return None
            raise

    def look_into(self, folder: str) -> dict[str, bytes]:
        """Return the values whose names begin with `folder` and a slash, by the rest of their names."""
        found = self._connection.key_value_dir_get_bytes(f"{folder}/")
        return {name.removeprefix(f"{folder}/"): value for name, value in found}

    def forget(self, folder: str) -> None:
        """Remove the values whose names begin with `folder` and a slash."""
        self._connection.key_value_delete(f"{folder}/")

    def has_left(self, rank: int) -> bool:
        """Return True once the process of a rank has ended by itself."""
        return self.look(f"tpu_dynamo/left/{rank}") is not None

    def wait_large(self, name: str, seconds: float, vain: Callable[[], bool] = lambda: False) -> bytes | None:
        """Return what `put_large` writes, as `wait` does."""
        if (found := self.wait(name, seconds, vain)) is None:
            return None
        rank, count = map(int, found.split())
        pieces = [self.look(f"{name}/{rank}/{number}") for number in range(count)]
        return b"".join(piece for piece in pieces if piece is not None)

    def wait(self, name: str, seconds: float, vain: Callable[[], bool] = lambda: False) -> bytes | None:
        """Return a value when it is written; None after `seconds`, or once `vain()` says that it will not be."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                patience = max(1, int(min(left, _GLANCE) * 1000))
                return self._connection.blocking_key_value_get_bytes(name, patience)
            except XlaRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise
            if vain():
                return self.look(name)
        return None


_links: list[Link] = []


def link() -> Link | None:
    """Return the process's connection to its job; None where it is alone."""
    return _links[0] if _links else None


def join(job: Job) -> None:
    """Join a job for as long as the process lives. Raises JobError as `join_job` does."""
    made = Link(job)
    if not _links:
        _links.append(made)
        atexit.register(_leave)


def _leave() -> None:
    link = _links[0]
    try:
        link.put(f"tpu_dynamo/left/{link.job.rank}", b"")
        # After an error the others are not waited for: their waiting ends with this process.
        if not hasattr(sys, "last_value"):
            leave_job()
    except XlaRuntimeError as error:
        log.warning("rank %d ends without the others: %s", link.job.rank, str(error).splitlines()[0])
