"""What makes executables for the targets of a worker's cases."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tpu_dynamo_runtime import client, find_topology
from tpu_dynamo_runtime.topology_compiler import TopologyCompiler

from .warming import PlatformMaker


class Makers:
    """Gives what makes executables for targets, and keeps the compiler of the topology that was used last.

    libtpu takes 3 s to start and 0.7 GiB to run, so there is one at a time. The clients of platforms are the process's.
    """

    def __init__(self) -> None:
        self._held = contextlib.ExitStack()
        self._target, self._compiler = "", None

    def __call__(self, target: str) -> PlatformMaker:
        """The maker for a target. Raises UnknownTarget and PlatformUnavailable."""
        topology = find_topology(target)
        if topology is None:
            return client(target)
        if self._compiler is None or target != self._target:
            self.close()
            self._compiler, self._target = self._held.enter_context(TopologyCompiler(topology)), target
        return self._compiler

    def close(self) -> None:
        """Let go of the one that is held; also after a crash of it."""
        held, self._held, self._compiler = self._held, contextlib.ExitStack(), None
        held.close()


@contextlib.contextmanager
def makers() -> Iterator[Makers]:
    """Makers that are closed at the end."""
    opened = Makers()
    try:
        yield opened
    finally:
        opened.close()
