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


class Link:
    """The values of one job, kept by rank 0's coordination service.

    Names are used once: a value stays as it was written.
    """

    def __init__(self, job: Job):
        self.job = job
        self._connection = join_job(job)

    def put(self, name: str, value: bytes) -> None:
        """Write a value. Raises XlaRuntimeError where the service is gone."""
        self._connection.key_value_set_bytes(name, value, True)

    def look(self, name: str) -> bytes | None:
        """Return a value if it was written."""
        try:
            return self._connection.key_value_try_get_bytes(name)
        except XlaRuntimeError as error:
            if "NOT_FOUND" in str(error):
                return None
            raise

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
