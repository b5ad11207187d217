"""The executables that are loaded in this process: shared by equal programs, and bounded in number."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from weakref import WeakValueDictionary

from .first_execution import FirstExecution
from .job import Span
from .pjrt import Client, LoadedExecutable
from .renaming import Renaming
from .traffic import Traffic
from .watching import watched_compile
from .xla_flags import XlaFlags

# From a program to its executable; it notes on the program as what that was compiled.
Load = Callable[["PooledProgram"], LoadedExecutable]


class ForkedProcess(RuntimeError):
    """A compiled function is called in a process that was forked from the one that compiled it."""

    def __init__(self, platform: str):
        super().__init__(
            f"this process was forked from one that runs programs on {platform}, and PJRT's threads stayed there\n"
            '  try: multiprocessing.get_context("spawn"), which DataLoader(multiprocessing_context="spawn") takes'
        )


class PooledProgram:
    """A program that is loaded, or was and will be again when it is called.

    Lives as long as a compiled function uses it. obtain: how it is loaded. span: the ranks that run
    it together, empty for one device. operations: the names of its graph's operations in stablehlo. last_use: the
    count of executions when it last ran.

    compiled_operations: the names in the executable, which one that was found has from the source that it was compiled
    from; None where they are not known. operations_of: by each graph that it computes, in words, gives the names that
    the operations have there; None where nobody knows them.
    """

    def __init__(
        self,
        client: Client,
        stablehlo: bytes,
        digest: str,
        obtain: Load,
        load: Callable[[PooledProgram], LoadedExecutable],
        span: Span = (),
        operations: Sequence[str] = (),
    ):
        self.client = client
        self.stablehlo = stablehlo
        self.digest = digest
        self.obtain = obtain
        self.span = span
        self.operations = operations
        self.compiled_operations: Sequence[str] | None = None
        self.operations_of: dict[str, Callable[[], Sequence[str] | None]] = {}
        self.executable: LoadedExecutable | None = None
        self.last_use = 0
        # Not held while others load: threads that compile ahead compile beside each other.
        self.loading = threading.RLock()
        self._load = load

    def loaded(self) -> LoadedExecutable:
        """Return the executable, loaded anew if it was evicted. Raises ForkedProcess, and what loading raises."""
        return self.executable or self._load(self)

    def renaming(self, graph: str) -> Renaming:
        """Return the renaming from the executable's operations to those of a graph, where both are known."""
        names = self.operations_of[graph]() if graph in self.operations_of else None
        return Renaming(self.compiled_operations, names or ())


class Pool:
    """Loaded executables by client, digest, flags and span, at most `limit`; the least recently used goes first.

    load: compiles a program, or takes it from a store; called by one thread at a time for one program. timed: a context
    for the first execution of each program.
    """

    def __init__(
        self,
        load: Load,
        traffic: Traffic,
        limit: int = 256,
        timed: Callable[[], AbstractContextManager[None]] | None = None,
    ):
        self.limit = limit
        self._load = load
        self._traffic = traffic
        self._timed = timed
        self._lock = threading.Lock()
        self._entries: WeakValueDictionary[tuple[Client, str, XlaFlags, Span], PooledProgram] = WeakValueDictionary()
        self._forked = False
        self._inherited: list[LoadedExecutable] = []

    def find(self, client: Client, digest: str, flags: XlaFlags = (), span: Span = ()) -> PooledProgram | None:
        """Return a program that some compiled function uses already and that is loaded; None if there is none."""
        with self._lock:
            entry = self._entries.get((client, digest, flags, span))
            return entry if entry is not None and entry.executable is not None else None

    def enter(
        self,
        client: Client,
        stablehlo: bytes,
        digest: str,
        load: Load | None = None,
        flags: XlaFlags = (),
        span: Span = (),
        operations: Sequence[str] = (),
    ) -> PooledProgram:
        """Return a program, loaded. Raises what loading raises.

        load: how this one is loaded, now and after it was evicted, if not as the others. flags: of XLA, with
        which it is compiled. span: the ranks whose devices it runs on, if it has collectives. operations: the names of
        its graph's operations in stablehlo.
        """
        with self._lock:
            entry = self._entries.get((client, digest, flags, span))
            if entry is None:
                entry = self._entries[client, digest, flags, span] = PooledProgram(
                    client, stablehlo, digest, load or self._load, self._renew, span, operations
                )
            elif entry.executable is None:
                # Who asks last says how, and by which names: programs of one digest differ in these alone.
                entry.obtain, entry.stablehlo, entry.operations = load or self._load, stablehlo, operations
        entry.loaded()
        return entry

    def _renew(self, entry: PooledProgram) -> LoadedExecutable:
        with entry.loading:
            if entry.executable is not None:
                return entry.executable
            if self._forked:
                raise ForkedProcess(entry.client.platform)
            with watched_compile("loading a program"):
                executable = entry.obtain(entry)
            if self._timed is not None:
                executable = FirstExecution(entry, executable, self._timed)
            entry.executable = executable
            entry.last_use = self._traffic.executions
        self._evict(entry)
        return executable

    def _evict(self, newest: PooledProgram) -> None:
        with self._lock:
            loaded = [e for e in self._entries.values() if e.executable is not None and e is not newest]
            loaded.sort(key=lambda e: e.last_use)
            for entry in loaded[: max(0, len(loaded) + 1 - self.limit)]:
                entry.executable = None

    def __len__(self) -> int:
        """Return the number of loaded executables."""
        with self._lock:
            return sum(entry.executable is not None for entry in self._entries.values())

    def clear(self) -> None:
        """Unload everything; what is still in use is loaded anew when it is called."""
        with self._lock:
            for entry in self._entries.values():
                entry.executable = None

    def after_fork(self) -> None:
        """Forget, in a forked child, what is loaded; it is not freed: PJRT's threads stayed in the parent."""
        self._forked = True
        self._lock = threading.Lock()
        for entry in self._entries.values():
            entry.loading = threading.RLock()
            self._inherited.append(entry.executable)
            entry.executable = None
