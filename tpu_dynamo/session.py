"""What one process holds: the counts, and the executables that are loaded."""

from __future__ import annotations

import threading
from collections import OrderedDict

from tpu_dynamo_runtime import Client, LoadedExecutable, reset_clients

from .statistics import Snapshot, Statistics

# Executables kept for programs that come again, as after torch._dynamo.reset(); those in use live anyhow.
_MAX_LOADED = 256


class Session:
    """The process's counts and its loaded executables, found by platform and program."""

    def __init__(self) -> None:
        self.statistics = Statistics()
        self._lock = threading.Lock()
        self._loaded: OrderedDict[tuple[Client, str], LoadedExecutable] = OrderedDict()

    def load(self, client: Client, stablehlo: bytes, digest: str) -> LoadedExecutable:
        """The executable of a program on a client: the one loaded already, or a freshly compiled one.

        digest: equal for equal programs. Raises what XLA raises.
        """
        key = client, digest
        with self._lock:
            if key in self._loaded:
                self._loaded.move_to_end(key)
                self.statistics.count("cache_hits", "memory")
                return self._loaded[key]
        self.statistics.count("cache_misses", "memory")
        executable = client.compile(stablehlo)
        self.statistics.count("xla_compiles")
        with self._lock:
            self._loaded[key] = executable
            while len(self._loaded) > _MAX_LOADED:
                self._loaded.popitem(last=False)
        return executable

    def clear(self) -> None:
        """Drop every executable that no compiled function holds."""
        with self._lock:
            self._loaded.clear()


_session = Session()


def session() -> Session:
    """The process's session."""
    return _session


def stats() -> Snapshot:
    """The counts of this process so far."""
    return _session.statistics.snapshot()


def reset_stats() -> None:
    """Set every count to zero."""
    _session.statistics.reset()


def reset() -> None:
    """Forget loaded executables, PJRT clients and counts; compiled functions that are still held go on working."""
    _session.clear()
    _session.statistics.reset()
    reset_clients()
