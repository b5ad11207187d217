"""What one process holds: the counts, and the executables that are loaded."""

from __future__ import annotations

from tpu_dynamo_runtime import Client, Entry, LoadedExecutable, Pool, reset_clients

from .statistics import Snapshot, Statistics


class Session:
    """The process's counts and its loaded executables."""

    def __init__(self) -> None:
        self.statistics = Statistics()
        self._pool = Pool(self._obtain, self.statistics.traffic)

    def load(self, client: Client, stablehlo: bytes, digest: str, limit: int | None = None) -> Entry:
        """The program's executable on a client: the one loaded already, or a fresh one.

        digest: equal for equal programs. limit: how many executables may stay loaded, if that changes. Raises what XLA
        raises.
        """
        self._pool.limit = limit or self._pool.limit
        if (entry := self._pool.find(client, digest)) is not None:
            self.statistics.count("cache_hits", "memory")
            return entry
        self.statistics.count("cache_misses", "memory")
        return self._pool.enter(client, stablehlo, digest)

    def _obtain(self, client: Client, stablehlo: bytes, digest: str) -> LoadedExecutable:
        executable = client.compile(stablehlo)
        self.statistics.count("xla_compiles")
        return executable

    def release(self) -> None:
        """Unload every executable; those that compiled functions still hold are loaded anew when they are called."""
        self._pool.clear()


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
    _session.release()
    _session.statistics.reset()
    reset_clients()
