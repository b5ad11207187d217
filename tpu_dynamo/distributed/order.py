"""The order in which ranks run programs together, compared before each run on XLA's CPU client."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from tpu_dynamo_runtime import Buffer, Launch, PooledProgram, Result, Span, Traffic

from ..users_line import users_line
from .agreement import ProgramsDiffer, RankMissing
from .link import Link, link

# Runs after which what was said of them is forgotten.
_KEPT = 64
# Seconds to wait for what others say of a run; a rank that comes later is waited for in the run.
_PATIENCE = 5
_SAME = "    each ran before, in another order"


class Order:
    """The runs of one span that this process has begun.

    Each rank says what it is about to run, and then reads what the others say of the same run: of two that differ at
    least one sees it, and does not run. Collectives of different programs end gloo's process, or give nonsense.
    """

    def __init__(self, link: Link, span: Span):
        self._link = link
        self._span = span
        self._begun = 0
        self._place = ""

    def begin(self, digest: str) -> None:
        """Say that this rank runs the program of a digest next, and wait a moment for the others to say the same.

        Raises ProgramsDiffer where another runs another, RankMissing where its process has ended.
        """
        self._place = users_line()
        self._begun += 1
        self._link.put(f"{self._folder()}/{self._link.job.rank}", f"{digest} {self._place}".encode())
        if self._link.job.rank == self._span[0] and self._begun % _KEPT == 0:
            self._link.forget(f"{self._name()}/{self._begun // _KEPT - 2}")
        said, end = self._said(), time.monotonic() + _PATIENCE
        missing = [rank for rank in self._span if rank not in said]
        for rank in missing:
            if (left := end - time.monotonic()) > 0:
                self._link.wait(f"{self._folder()}/{rank}", left, partial(self._link.has_left, rank))
        self._compare(self._said() if missing else said)

    def failed(self) -> None:
        """Raise the reason of the latest run's failure if it is that ranks differ, or that one has left."""
        self._compare(self._said())

    def _compare(self, said: dict[int, tuple[str, str]]) -> None:
        first = min(said)
        for rank in sorted(said):
            if said[rank][0] != said[first][0]:
                raise ProgramsDiffer((first, rank), (said[first][1], said[rank][1]), _SAME)
        if left := [rank for rank in self._span if rank not in said and self._link.has_left(rank)]:
            raise RankMissing(left, self._place, "its process has ended")

    def _said(self) -> dict[int, tuple[str, str]]:
        """Return the digest and the line of each rank that has begun this run."""
        found = self._link.look_into(self._folder())
        pairs = {int(rank): value.decode().split(" ", 1) for rank, value in found.items()}
        return {rank: (digest, place) for rank, (digest, place) in pairs.items()}

    def _folder(self) -> str:
        return f"{self._name()}/{self._begun // _KEPT}/{self._begun}"

    def _name(self) -> str:
        return f"tpu_dynamo/order/{'.'.join(map(str, self._span))}"


_orders: dict[tuple[Link, Span], Order] = {}


class LaunchInOrder(Launch):
    """A launch of a program of several ranks, which they begin in the same order."""

    def __init__(self, program: PooledProgram, results: Sequence[Result], traffic: Traffic, connection: Link):
        super().__init__(program, results, traffic)
        self._order = _orders.setdefault((connection, program.span), Order(connection, program.span))
        self._digest = program.digest

    def __call__(self, operands: Sequence[Buffer]) -> list[Buffer]:
        """Run, as Launch does. Raises ProgramsDiffer, and RankMissing where a rank left meanwhile."""
        self._order.begin(self._digest)
        return super().__call__(operands)

    def into(self, buffers: list[Buffer], operands: Sequence[Buffer]) -> None:
        """Run as Launch does. Raises as a call does."""
        self._order.begin(self._digest)
        super().into(buffers, operands)

    def explain(self, error: Exception) -> None:
        """Raise the reason of a failed run if it lies with another rank."""
        self._order.failed()
        super().explain(error)


def launch_of(program: PooledProgram, results: Sequence[Result], traffic: Traffic) -> Launch:
    """Return what runs a program: where several ranks do on the CPU client, they compare before each run.

    On chips that would cost more than many a run, and runs go on there while the host is ahead of them.
    """
    connection = link()
    if connection is None or len(program.span) < 2 or program.client.platform != "cpu":
        return Launch(program, results, traffic)
    return LaunchInOrder(program, results, traffic, connection)
