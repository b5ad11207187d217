"""The watcher of executions, copies and compiles while a program runs: nobody, unless a profile is taken."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from .pjrt import Buffer, LoadedExecutable
    from .pool import PooledProgram


class Watcher(Protocol):
    """Sees what the host asks of PJRT, in whatever thread."""

    def execute(
        self, program: PooledProgram, described: str, executable: LoadedExecutable, operands: Sequence[Buffer]
    ) -> Any:
        """Run `executable.execute_sharded(operands)`, and return its results.

        described: the graph that it computes, for people; empty for an eager operator.
        """
        ...

    def during(self, kind: Literal["transfer", "compile"], what: str, nbytes: int = 0) -> AbstractContextManager[None]:
        """Return the context of a copy of so many bytes, or of a compile. what: names it."""
        ...


class Watching:
    """The watcher of this process; None where nobody watches, which every execution and every copy asks once."""

    now: ClassVar[Watcher | None] = None


def watched_compile(what: str) -> AbstractContextManager[None]:
    """Return the context of a compile, for whoever watches."""
    watcher = Watching.now
    return nullcontext() if watcher is None else watcher.during("compile", what)
