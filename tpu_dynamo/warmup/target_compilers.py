"""The compilers for the targets of a worker's cases."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tpu_dynamo_runtime import client, find_topology
from tpu_dynamo_runtime.topology_compiler import TopologyCompiler

from ..cache.spanning import Placing


class Makers:
    """The compilers by target: clients for platforms, and the compiler of the topology that was used last.

    libtpu takes 3 s to start and 0.7 GiB to run, so one compiler runs at a time. A platform's client is that of the
    process.
    """

    def __init__(self) -> None:
        self._held = contextlib.ExitStack()
        self._target, self._compiler = "", None

    def __call__(self, target: str) -> Placing:
        """Return the client or compiler for a target. Raises UnknownTarget and PlatformUnavailable."""
        topology = find_topology(target)
        if topology is None:
            return client(target)
        if self._compiler is None or target != self._target:
            self.close()
            self._compiler, self._target = self._held.enter_context(TopologyCompiler(topology)), target
        return self._compiler

    def close(self) -> None:
        """End the compiler that is running, if any; it may have crashed."""
        held, self._held, self._compiler = self._held, contextlib.ExitStack(), None
        held.close()


@contextlib.contextmanager
def makers() -> Iterator[Makers]:
    """Yield makers, and close them at the end."""
    opened = Makers()
    try:
        yield opened
    finally:
        opened.close()
