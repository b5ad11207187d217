"""What one process holds: the counts, the executables that are loaded, and the caches on disk that are open."""

from __future__ import annotations

import os
from functools import partial
from typing import Protocol
from weakref import WeakKeyDictionary, WeakSet

from tpu_dynamo_lowering import Program
from tpu_dynamo_runtime import Client, Load, LoadedExecutable, Pool, PooledProgram, Residents, reset_clients
from tpu_dynamo_runtime.store import Store, open_store

from .cache import portable
from .cache.cache import Cache
from .cache.misses import Miss
from .cache.settings import CacheSettings, cache_settings
from .statistics import Snapshot, Statistics


class Holder(Protocol):
    """A graph's executable as one that holds memory of the device."""

    @property
    def constant_bytes(self) -> int:
        """Bytes of the graph's own constants."""
        ...


class Session:
    """The process's counts, its loaded executables and its open caches."""

    def __init__(self) -> None:
        self.statistics = Statistics()
        # Apart, because torch._dynamo.reset() is about graphs.
        self._graphs = Pool(self._compile, self.statistics.traffic)
        self._operators = Pool(self._compile, self.statistics.traffic, limit=4096)
        self._caches: dict[CacheSettings, Cache] = {}
        self.last_miss: Miss | None = None
        self._watching = False
        self._executables: WeakSet[Holder] = WeakSet()
        self._residents: WeakKeyDictionary[Client, Residents] = WeakKeyDictionary()

    def load(
        self, client: Client, program: Program, limit: int, cache: Cache | None = None, graph: str = ""
    ) -> PooledProgram:
        """A graph's executable on a client: the one loaded already, one from the cache, or a fresh one.

        limit: how many executables of graphs may stay loaded. Raises what XLA raises.
        """
        self._graphs.limit = limit
        obtain = partial(cache.executable, graph=graph) if cache is not None else None
        return self._load(self._graphs, client, program, obtain)

    def load_operator(self, client: Client, program: Program) -> PooledProgram:
        """The same for an eager operator on the device, with the cache that the environment names."""
        cache = self.cache(cache_settings())
        return self._load(self._operators, client, program, cache.executable if cache is not None else None)

    def cache(self, settings: CacheSettings) -> Cache | None:
        """The cache of these settings, opened once; None where they say that there is none."""
        if not settings.enabled:
            return None
        if settings not in self._caches:
            store = open_store(
                settings.directory,
                max_bytes=settings.max_bytes,
                read_only=settings.read_only,
                remote=settings.remote,
                faults=self.statistics.faults,
            )
            self._caches[settings] = Cache(store, self.statistics, self._note_miss)
        return self._caches[settings]

    def _note_miss(self, miss: Miss) -> None:
        self.last_miss = miss

    def _watch_forks(self) -> None:
        if not self._watching:
            self._watching = True
            os.register_at_fork(after_in_child=self._graphs.after_fork)
            os.register_at_fork(after_in_child=self._operators.after_fork)

    def _load(self, pool: Pool, client: Client, program: Program, obtain: Load | None) -> PooledProgram:
        self._watch_forks()
        if (entry := pool.find(client, program.digest)) is not None:
            self.statistics.count("cache_hits", "memory")
            return entry
        self.statistics.count("cache_misses", "memory")
        return pool.enter(client, program.stablehlo, program.digest, obtain)

    def _compile(self, client: Client, stablehlo: bytes, digest: str) -> LoadedExecutable:
        executable = client.compile(stablehlo)
        self.statistics.count("xla_compiles")
        return executable

    def note(self, executable: Holder) -> None:
        """Remember a graph's executable, weakly, as one that holds memory."""
        self._executables.add(executable)

    def executables(self) -> list[Holder]:
        """Those that are still in use."""
        return list(self._executables)

    def residents(self, client: Client) -> Residents:
        """The copies of CPU models' parameters on a client's device."""
        return self._residents.setdefault(client, Residents())

    def resident_bytes(self) -> int:
        """Bytes of all copies of CPU models' parameters."""
        return sum(residents.nbytes for residents in self._residents.values())

    def release_graphs(self) -> None:
        """Unload the executables of graphs; what is still held is loaded anew when it is called."""
        self._graphs.clear()

    def release(self) -> None:
        """Unload every executable."""
        self._graphs.clear()
        self._operators.clear()

    def close_caches(self) -> None:
        """Forget the caches; what the environment names is opened anew when it is needed."""
        self._caches.clear()
        self.last_miss = None

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


def explain_last_miss() -> Miss | None:
    """Why the latest graph that was not in the cache was not there; None where every graph was."""
    return _session.last_miss


def reset() -> None:
    """Forget loaded executables, PJRT clients, caches and counts; compiled functions that are held go on working."""
    _session.release()
    _session.close_caches()
    _session.statistics.reset()
    reset_clients()


def _store_of_environment() -> Store | None:
    cache = _session.cache(cache_settings())
    return cache.store if cache is not None else None


portable.register(_store_of_environment)
