"""What one process holds: the counts, and the executables that are loaded."""

from __future__ import annotations

from typing import Protocol
from weakref import WeakSet

from tpu_dynamo_runtime import Client, Entry, LoadedExecutable, Pool, reset_clients

from .statistics import Snapshot, Statistics


class Holder(Protocol):
    """A graph's executable as one that holds memory of the device."""

    @property
    def resident_bytes(self) -> int:
        """Bytes of copies of parameters."""
        ...

    @property
    def constant_bytes(self) -> int:
        """Bytes of the graph's own constants."""
        ...


class Session:
    """The process's counts and its loaded executables."""

    def __init__(self) -> None:
        self.statistics = Statistics()
        # Apart, because torch._dynamo.reset() is about graphs.
        self._graphs = Pool(self._obtain, self.statistics.traffic)
        self._operators = Pool(self._obtain, self.statistics.traffic, limit=4096)
        self._executables: WeakSet[Holder] = WeakSet()

    def load(self, client: Client, stablehlo: bytes, digest: str, limit: int) -> Entry:
        """The program's executable on a client: the one loaded already, or a fresh one.

        digest: equal for equal programs. limit: how many executables of graphs may stay loaded. Raises what XLA
        raises.
        """
        self._graphs.limit = limit
        return self._load(self._graphs, client, stablehlo, digest)

    def load_operator(self, client: Client, stablehlo: bytes, digest: str) -> Entry:
        """The same for the program of an eager operator on the device."""
        return self._load(self._operators, client, stablehlo, digest)

    def _load(self, pool: Pool, client: Client, stablehlo: bytes, digest: str) -> Entry:
        if (entry := pool.find(client, digest)) is not None:
            self.statistics.count("cache_hits", "memory")
            return entry
        self.statistics.count("cache_misses", "memory")
        return pool.enter(client, stablehlo, digest)

    def _obtain(self, client: Client, stablehlo: bytes, digest: str) -> LoadedExecutable:
        executable = client.compile(stablehlo)
        self.statistics.count("xla_compiles")
        return executable

    def note(self, executable: Holder) -> None:
        """Remember a graph's executable, weakly, as one that holds memory."""
        self._executables.add(executable)

    def executables(self) -> list[Holder]:
        """Those that are still in use."""
        return list(self._executables)

    def release_graphs(self) -> None:
        """Unload the executables of graphs; what is still held is loaded anew when it is called."""
        self._graphs.clear()

    def release(self) -> None:
        """Unload every executable."""
        self._graphs.clear()
        self._operators.clear()

    @property
    def loaded(self) -> int:
        """How many executables of graphs are loaded."""
        return len(self._graphs)


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
