"""The state of a process: its counts, loaded executables and open caches on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Protocol
from weakref import WeakKeyDictionary, WeakSet

from tpu_dynamo_lowering import Program
from tpu_dynamo_runtime import (
    Client,
    LoadedExecutable,
    Pool,
    PooledProgram,
    Residents,
    Span,
    XlaFlags,
    reset_clients,
)
from tpu_dynamo_runtime.store import Store, open_store

from .cache import portable
from .cache.cache import Cache
from .cache.executables import Obtained, executable_key, shared
from .cache.flagged import PlatformMaker, flagged
from .cache.forbidden import CompileForbidden, ForbiddenMaker
from .cache.misses import Miss
from .cache.settings import CacheSettings, cache_settings
from .cache.spanning import spanning
from .cache.timed import TimedMaker
from .distributed import together
from .profiling import PROFILE_VARIABLE
from .statistics import EXECUTION, READING, Snapshot, Statistics


def tell_what_is_held(client: Client) -> None:
    """Let a client's errors for full memory say what holds it."""
    client.held_in_words = partial(_held_in_words, client.platform)


def _held_in_words(platform: str) -> str:
    from .full_device import held_in_words  # needs the session's counts, and is needed for an error alone

    return held_in_words(platform)


class HoldsConstants(Protocol):
    """A graph's executable, which holds its constants in the device's memory."""

    @property
    def constant_bytes(self) -> int:
        """Bytes of the graph's own constants."""
        ...


class Session:
    """The process's counts, its loaded executables and its open caches."""

    def __init__(self) -> None:
        self.statistics = Statistics()
        # Apart, because torch._dynamo.reset() is about graphs.
        alone = partial(self._obtain, None, None, (), (), False)
        timed = partial(self.statistics.clock.timed, EXECUTION)
        self._graphs = Pool(alone, self.statistics.traffic, timed=timed)
        self._operators = Pool(alone, self.statistics.traffic, limit=4096)
        self._caches: dict[CacheSettings, Cache] = {}
        self.last_miss: Miss | None = None
        self._prepared = False
        self._forbidding = 0
        self._executables: WeakSet[HoldsConstants] = WeakSet()
        self._residents: WeakKeyDictionary[Client, Residents] = WeakKeyDictionary()

    def load(
        self,
        client: Client,
        program: Program,
        limit: int,
        cache: Cache | None = None,
        graph: str = "",
        flags: XlaFlags = (),
        span: Span = (),
        forbidden: bool = False,
    ) -> PooledProgram:
        """Return a graph's executable on a client: the one loaded already, one from the cache, or a newly compiled one.

        limit: how many executables of graphs may stay loaded. flags: XLA's, for this one. span: the ranks that run it
        together, which then agree on it first. forbidden: whether it may only be loaded. Raises XLA's errors, those of
        `Agreement.agree`, and CompileForbidden.
        """
        self._graphs.limit = limit
        return self._load(self._graphs, client, program, cache, graph, flags, span, forbidden=forbidden)

    def load_operator(self, client: Client, program: Program, span: Span = (), place: str = "") -> PooledProgram:
        """Return an eager operator's executable on a client; the cache is the one that the environment names.

        span: the ranks that run it together. place: the user's line that does.
        """
        return self._load(self._operators, client, program, self.cache(cache_settings()), None, (), span, place)

    def cache(self, settings: CacheSettings) -> Cache | None:
        """Return the cache of these settings, opened once; None if they switch it off."""
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

    @contextmanager
    def forbidding(self) -> Iterator[None]:
        """Let nothing be lowered or compiled within the context, in any thread."""
        self._forbidding += 1
        try:
            yield
        finally:
            self._forbidding -= 1

    def require_allowed(self, what: str, graph: str | None = None, forbidden: bool = False) -> None:
        """Raise CompileForbidden if nothing may be lowered now, with the reason why `what` is not in the cache.

        graph: its name, None for an eager operator. forbidden: whether its own options forbid it.
        """
        if not (self._forbidding or forbidden):
            return
        miss = self.last_miss
        explained = miss is not None and miss.graph == graph
        raise CompileForbidden(what, str(miss) if explained else "nothing like it is in the cache")

    def _note_miss(self, miss: Miss) -> None:
        self.last_miss = miss

    def _prepare_process(self) -> None:
        if not self._prepared:
            self._prepared = True
            if os.environ.get(PROFILE_VARIABLE):
                from .profiling.asked import begin  # which nobody else needs

                begin(os.environ[PROFILE_VARIABLE])
            os.register_at_fork(after_in_child=self._graphs.after_fork)
            os.register_at_fork(after_in_child=self._operators.after_fork)
            os.register_at_fork(after_in_child=self.statistics.after_fork)

    def _load(
        self,
        pool: Pool,
        client: Client,
        program: Program,
        cache: Cache | None,
        graph: str | None,
        flags: XlaFlags,
        span: Span,
        place: str = "",
        forbidden: bool = False,
    ) -> PooledProgram:
        self._prepare_process()
        tell_what_is_held(client)
        if span:
            together.agree(span, program, place)
        if (entry := pool.find(client, program.digest, flags, span)) is not None:
            self.statistics.count("cache_hits", "memory")
            return entry
        self.statistics.count("cache_misses", "memory")
        obtain = partial(self._obtain, cache, graph, flags, span, forbidden)
        return pool.enter(client, program.stablehlo, program.digest, obtain, flags, span, program.operations)

    def _obtain(
        self,
        cache: Cache | None,
        graph: str | None,
        flags: XlaFlags,
        span: Span,
        forbidden: bool,
        entry: PooledProgram,
    ) -> LoadedExecutable:
        maker: PlatformMaker = TimedMaker(flagged(spanning(entry.client, span), flags), self.statistics.clock)
        if forbidden or self._forbidding:
            maker = ForbiddenMaker(maker, f"graph {graph}" if graph else "an eager operator")
        if cache is None:
            found = self._compile(maker, span, entry)
        else:
            with self.statistics.clock.timed(READING):
                found = cache.executable(
                    maker, entry.stablehlo, entry.digest, graph, together.others(span), entry.operations
                )
        entry.compiled_operations = found.operations
        return found.executable

    def _compile(self, maker: PlatformMaker, span: Span, entry: PooledProgram) -> Obtained:
        others = together.others(span)

        def make() -> tuple[Obtained, None]:
            return Obtained(maker.compile(entry.stablehlo), None, (), entry.operations), None

        if others is not None:
            found, _ = shared(others, maker, executable_key(entry.digest, maker.environment), make)
        else:
            found, _ = make()
        if found.level is None:
            self.statistics.count("xla_compiles")
        else:
            self.statistics.count("cache_hits", found.level)
        return found

    def note(self, executable: HoldsConstants) -> None:
        """Remember a graph's executable, by a weak reference, as one that holds constants."""
        self._executables.add(executable)

    def executables(self) -> list[HoldsConstants]:
        """Return the executables that hold constants and are still in use."""
        return list(self._executables)

    def residents(self, client: Client) -> Residents:
        """Return the copies of CPU models' parameters on a client's device."""
        return self._residents.setdefault(client, Residents())

    def resident_bytes(self) -> int:
        """Return the bytes of all copies of CPU models' parameters."""
        return sum(residents.nbytes for residents in self._residents.values())

    def release_graphs(self) -> None:
        """Unload the executables of graphs; each is loaded again if it is called."""
        self._graphs.clear()

    def release(self) -> None:
        """Unload every executable."""
        self._graphs.clear()
        self._operators.clear()

    def close_caches(self) -> None:
        """Forget the open caches; each is opened again when it is needed."""
        self._caches.clear()
        self.last_miss = None

    @property
    def loaded(self) -> int:
        """The number of loaded executables of graphs."""
        return len(self._graphs)


_session = Session()


def session() -> Session:
    """Return the process's session."""
    return _session


def stats() -> Snapshot:
    """Return the counts of this process so far."""
    return _session.statistics.snapshot()


def reset_stats() -> None:
    """Set every count to zero."""
    _session.statistics.reset()


def forbid_compile() -> AbstractContextManager[None]:
    """Return a context in which nothing is lowered or compiled, in any thread: what would be raises CompileForbidden.

    Programs and executables of the cache are loaded as ever, and Dynamo may trace.
    """
    return _session.forbidding()


def explain_last_miss() -> Miss | None:
    """Return the reason why the latest graph that was not in the cache was not there; None if every graph was."""
    return _session.last_miss


def reset() -> None:
    """Forget loaded executables, PJRT clients, caches and counts; compiled functions that are held go on working.

    The client of torch.device("tpu") stays, once there are tensors on the device.
    """
    _session.release()
    _session.close_caches()
    _session.statistics.reset()
    reset_clients()


def _store_of_environment() -> Store | None:
    cache = _session.cache(cache_settings())
    return cache.store if cache is not None else None


portable.register(_store_of_environment)
