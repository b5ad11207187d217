"""Executables made once for a job: one rank compiles, the others load what it made."""

from __future__ import annotations

import time

from tpu_dynamo_runtime import Span

from .link import Link

# Seconds that a rank waits for rank 0 to begin a program that no other must take part in, before it does it itself.
# Halved each time the wait was in vain, as for programs that depend on the rank; restored when it was not.
_PATIENCE = 4.0


class CompiledElsewhereFailed(RuntimeError):
    """The rank that compiles for the others could not."""

    def __init__(self, why: str):
        super().__init__(why)


class Sharing:
    """A rank's part in compiling for its job. received: how many executables other ranks made for this one."""

    def __init__(self, link: Link):
        self._link = link
        self._patience = _PATIENCE

    def receive(self, key: str, span: Span) -> bytes | None:
        """Return the executable of a key that another rank made, waiting for it; None if it is this rank's to make.

        key: the executable's. span: of a program's ranks, the first makes it; of one that each runs alone, rank 0 does
        where it begins soon. Raises CompiledElsewhereFailed.
        """
        maker = span[0] if span else 0
        if self._link.job.rank == maker:
            self._link.put(f"{_name(key, maker)}/begun", b"")
            return None
        if not span and not self._begun(key, maker):
            return None
        found = self._link.wait(f"{_name(key, maker)}/made", self._link.job.patience)
        if found is None or found[:1] == b"!":
            raise CompiledElsewhereFailed(
                f"rank {maker} did not compile a program for the others: "
                + (found[1:].decode() if found else f"it took more than {self._link.job.patience:.0f} seconds")
            )
        return found[1:]

    def _begun(self, key: str, maker: int) -> bool:
        started = time.monotonic()
        begun = self._link.look(f"{_name(key, maker)}/begun") is not None
        while not begun and (left := self._patience - (time.monotonic() - started)) > 0.01:
            begun = self._link.wait(f"{_name(key, maker)}/begun", left) is not None
        self._patience = _PATIENCE if begun else self._patience / 2
        return begun

    def publish(self, key: str, span: Span, executable: bytes) -> None:
        """Give the others the executable that this rank made, if they wait for it."""
        self._tell(key, span, b"=" + executable)

    def fail(self, key: str, span: Span, why: str) -> None:
        """Tell the others why there is no executable."""
        self._tell(key, span, b"!" + why.encode())

    def _tell(self, key: str, span: Span, value: bytes) -> None:
        maker = span[0] if span else 0
        if self._link.job.rank == maker:
            self._link.put(f"{_name(key, maker)}/made", value)


def _name(key: str, maker: int) -> str:
    return f"tpu_dynamo/executables/{maker}/{key}"
