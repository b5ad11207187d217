"""One store, looked into at both levels: what is found, what is made and kept, and why."""

from __future__ import annotations

import logging
from collections.abc import Callable

from tpu_dynamo_lowering import Program, Unnameable
from tpu_dynamo_runtime import Client, LoadedExecutable
from tpu_dynamo_runtime.store import Store

from ..artifacts import record_event
from ..signature import Signature
from ..statistics import Statistics
from . import executables, programs
from .misses import Miss, Neighbours, unnameable
from .portable import record

log = logging.getLogger("tpu_dynamo.cache")


class Cache:
    """Programs and executables of a store; every look is counted, and every miss of a graph explained.

    missed: called with each miss of a graph.
    """

    def __init__(self, store: Store, statistics: Statistics, missed: Callable[[Miss], None]):
        self.store = store
        self._statistics = statistics
        self._missed = missed
        self._neighbours = Neighbours(store)
        self._recognised: set[str] = set()  # digests of programs that were found

    def program(
        self, graph: str | None, sign: Callable[[], Signature], lower: Callable[[], Program]
    ) -> tuple[Program, str | None]:
        """The program of a graph: from the store, or lowered and then kept there. Raises what `lower` raises.

        graph: its name, None for an eager operator, of which a miss is counted alone. Beside the program stands the
        key under which other processes find it, None where they cannot.
        """
        try:
            signature = sign()
        except Unnameable as why:
            self._miss(unnameable(graph, why) if graph else None)
            return lower(), None
        program = programs.find(self.store, signature.key, remote=False)
        if program is None:
            with self.store.exclusive(programs.KIND, signature.key):
                # Another process may have made it in the meantime.
                program = programs.find(self.store, signature.key)
                if program is None:
                    self._miss(self._neighbours.explain_program(graph, signature) if graph else None)
                    program = lower()
                    programs.keep(self.store, signature, program)
                    record(self.store, programs.KIND, signature.key)
                    return program, signature.key
        self._found(graph, signature.key, program)
        return program, signature.key

    def known_program(self, graph: str, key: str) -> Program | None:
        """The program that is kept under a key; a graph that has none is no miss of ours: it is traced again."""
        program = programs.find(self.store, key)
        if program is not None:
            self._found(graph, key, program)
        return program

    def _found(self, graph: str | None, key: str, program: Program) -> None:
        record(self.store, programs.KIND, key)
        self._statistics.count("cache_hits", "signature")
        if graph:
            self._recognised.add(program.digest)
            _record("signature", "hit")

    def executable(self, client: Client, stablehlo: bytes, digest: str, graph: str | None = None) -> LoadedExecutable:
        """The executable of a program: from the store, or compiled and then kept there. Raises what XLA raises.

        graph: the name of the graph that it is of, None for an eager operator.
        """
        found = executables.obtain(self.store, client, stablehlo, digest)
        record(self.store, executables.KIND, executables.executable_key(digest, client.environment))
        for level in found.asked:
            self._statistics.count("cache_hits" if level == found.level else "cache_misses", level)
        if found.level is None:
            self._statistics.count("xla_compiles")
        if graph is not None and found.level is not None:
            _record(found.level, "hit")
        elif graph is not None and digest in self._recognised:
            self._tell(self._neighbours.explain_executable(graph, client, digest))
        elif graph is not None:
            _record("disk", "miss", "its program is new")
        return found.executable

    def _miss(self, miss: Miss | None) -> None:
        self._statistics.count("cache_misses", "signature")
        if miss is not None:
            self._tell(miss)

    def _tell(self, miss: Miss) -> None:
        self._missed(miss)
        log.info("%s", miss)
        _record(miss.level, "miss", "; ".join(miss.reasons))


def _record(level: str, outcome: str, reason: str | None = None) -> None:
    record_event("cache", lambda: {"level": level, "outcome": outcome, "reason": reason})
