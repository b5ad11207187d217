"""Loading a program as one process of a job: agreed on by the ranks that it spans, and compiled for all by one."""

from __future__ import annotations

from dataclasses import dataclass

from tpu_dynamo_lowering import Program
from tpu_dynamo_runtime import JobError, Span

from ..users_line import users_line
from .agreement import Agreement
from .link import Link, link
from .sharing import Sharing


@dataclass(frozen=True)
class Others:
    """The other ranks of a job, for executables of one span."""

    sharing: Sharing
    span: Span

    def receive(self, key: str) -> bytes | None:
        """Return an executable that another rank made; None if it is this one's to make."""
        return self.sharing.receive(key, self.span)

    def publish(self, key: str, executable: bytes | None) -> None:
        """Give the others an executable that this rank has; None where it cannot be passed on."""
        self.sharing.publish(key, self.span, executable)

    def fail(self, key: str, why: str) -> None:
        """Tell the others why there is no executable."""
        self.sharing.fail(key, self.span, why)


_made: dict[Link, tuple[Agreement, Sharing]] = {}


def _of(connection: Link) -> tuple[Agreement, Sharing]:
    if connection not in _made:
        _made[connection] = Agreement(connection), Sharing(connection)
    return _made[connection]


def agree(span: Span, program: Program, place: str) -> None:
    """Wait until all ranks of a span are about to run this program, at this line of the user's.

    Raises ProgramsDiffer, RankMissing and JobError.
    """
    if len(span) == 1:
        return
    if (connection := link()) is None:
        raise JobError(
            f"a program of the ranks {list(span)} cannot run in a process that has joined no job\n"
            "  try: torch.distributed.init_process_group() under torchrun, without a backend or with tpu_dist"
        )
    _of(connection)[0].agree(span, program.digest, place or users_line(), program.outline)


def others(span: Span) -> Others | None:
    """Return the other ranks of the job, to share an executable with; None for a process that is alone."""
    connection = link()
    return Others(_of(connection)[1], span if len(span) > 1 else ()) if connection is not None else None
