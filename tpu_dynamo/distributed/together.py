"""Loading a program as one process of a job: agreed on by the ranks that it spans, and compiled for all by one."""

from __future__ import annotations

import sys
import sysconfig
from dataclasses import dataclass

from tpu_dynamo_lowering import Program
from tpu_dynamo_runtime import JobError, Span

from .agreement import Agreement
from .link import Link, link
from .sharing import Sharing

_LIBRARIES = ("tpu_dynamo", "tpu_dynamo_lowering", "tpu_dynamo_runtime", "torch")
_STANDARD = sysconfig.get_path("stdlib")


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


def users_line() -> str:
    """Return the innermost line of the user's code that is running, as `train.py:12`."""
    frame = sys._getframe()
    while frame is not None:
        file, module = frame.f_code.co_filename, str(frame.f_globals.get("__name__")).partition(".")[0]
        if module not in _LIBRARIES and not file.startswith(("<", _STANDARD)):
            return f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return "a line that is not known"
