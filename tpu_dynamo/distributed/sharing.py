"""Executables made once for a job: one rank compiles, the others load what it made."""

from __future__ import annotations

import math

from tpu_dynamo_runtime import Span

from .link import Link

# How an answer begins: with an executable behind it, with the reason why there is none, or with nothing, where each
# rank makes its own.
_MADE, _FAILED, _OWN = b"=", b"!", b"?"


class CompiledElsewhereFailed(RuntimeError):
    """The rank that compiles for the others could not."""

    def __init__(self, rank: int, why: str):
        self.rank = rank
        super().__init__(f"rank {rank} did not compile a program for the others: {why}")


class Sharing:
    """A rank's part in compiling for its job.

    The rank that is first to claim a key compiles, and never waits for another while it does: so whatever the order in
    which ranks come to their programs, and whichever they have, each gets its executables.
    """

    def __init__(self, link: Link):
        self._link = link
        self._claimed: set[str] = set()

    def receive(self, key: str, span: Span) -> bytes | None:
        """Return the executable of a key that another rank made, waiting for it; None if it is this rank's to make.

        key: the executable's. span: of a program that ranks run together, the first of them claims the key, so that it
        compiles for all; of one that each runs alone, as of several spans with equal programs, whoever is first does.
        The others wait as long as that one lives. Raises CompiledElsewhereFailed.
        """
        own = self._link.job.rank
        maker = span[0] if span and span[0] != own else self._link.claim(_claim(key))
        if maker == own:
            self._claimed.add(key)
            return None
        found = self._link.wait_large(_name(key), math.inf, lambda: self._will_not_come(key, maker))
        if found is None:
            raise CompiledElsewhereFailed(maker, "its process has ended")
        if found.startswith(_FAILED):
            raise CompiledElsewhereFailed(maker, found[1:].decode())
        return found[1:] if found.startswith(_MADE) else None

    def _will_not_come(self, key: str, lead: int) -> bool:
        maker = self._link.look(_claim(key))
        return self._link.has_left(int(maker) if maker else lead)

    def publish(self, key: str, span: Span, executable: bytes | None) -> None:
        """Give the others the executable that this rank has, if they wait for it; None where it cannot be passed on."""
        self._tell(key, span, _OWN if executable is None else _MADE + executable)

    def fail(self, key: str, span: Span, why: str) -> None:
        """Tell the others why there is no executable."""
        self._tell(key, span, _FAILED + why.encode())

    def _tell(self, key: str, span: Span, value: bytes) -> None:
        # What was on disk nobody has claimed; of a program that ranks run together the others wait for the first.
        if key in self._claimed or (span and self._link.job.rank == span[0]):
            self._link.put_large(_name(key), value)


def _claim(key: str) -> str:
    return f"tpu_dynamo/claims/{key}"


def _name(key: str) -> str:
    return f"tpu_dynamo/executables/{key}"
