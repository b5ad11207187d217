"""Look-ups in a store at both levels, programs and executables: found, or made and kept, with each miss explained."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tpu_dynamo_lowering import NoStableKey, Program
from tpu_dynamo_runtime import unknown_targets
from tpu_dynamo_runtime.store import Store

from ..artifacts import record_event
from ..statistics import Statistics
from . import executables, programs
from .lookup_log import append_record
from .misses import Miss, Neighbours, unnameable, unregistered
from .portable import record
from .signature import Signature

log = logging.getLogger("tpu_dynamo.cache")


@dataclass
class ProgramSlot:
    """The place of one program in the cache.

    program: what was found there, or was put there by `keep`; None where there is none yet.
    """

    program: Program | None

    def keep(self, program: Program) -> Program:
        """Put a program in the empty place, to be kept when the context ends; returns it."""
        self.program = program
        return program


class Cache:
    """Programs and executables of a store; every look-up is counted, and every miss of a graph explained.

    missed: called with each miss of a graph.
    """

    def __init__(self, store: Store, statistics: Statistics, missed: Callable[[Miss], None]):
        self.store = store
        self._statistics = statistics
        self._missed = missed
        self._neighbours = Neighbours(store)
        self._recognised: set[str] = set()  # digests of programs that were found

    @contextmanager
    def program(self, graph: str | None, platform: str, signature: Signature) -> Iterator[ProgramSlot]:
        """Look for the program of a graph; within the context, one that is missing can be made and kept.

        graph: its name, None for an eager operator, of which a miss is counted alone. platform: where it is to run;
        what its custom calls need there is set up, and a program that calls what nothing has registered is a miss.
        While one process makes a program, others that want it wait.
        """
        found, unknown = self._find(signature.key, platform, remote=False)
        if found is not None:
            self._found(graph, signature.key, found, signature)
            yield ProgramSlot(found)
            return
        with self.store.exclusive(programs.KIND, signature.key):
            # Another process may have made it in the meantime.
            found, unknown = self._find(signature.key, platform)
            if found is not None:
                self._found(graph, signature.key, found, signature)
                yield ProgramSlot(found)
                return
            self._miss(self._explain(graph, signature, unknown) if graph else None)
            started = time.perf_counter()
            slot = ProgramSlot(None)
            yield slot
            if slot.program is not None:
                programs.keep(self.store, signature, slot.program)
                record(self.store, programs.KIND, signature.key)
                _log_lookup(graph, programs.KIND, signature.key, False, time.perf_counter() - started, signature)

    def count_unnameable(self, graph: str | None, why: NoStableKey) -> None:
        """Count the miss of a graph that no other process could recognise, and that is lowered each time."""
        self._miss(unnameable(graph, why) if graph else None)

    def _find(self, key: str, platform: str, *, remote: bool = True) -> tuple[Program | None, list[str]]:
        """Return the program under a key if it can run here, else None; and targets that nothing registered."""
        program = programs.find(self.store, key, remote=remote)
        unknown = unknown_targets(platform, program.custom_calls) if program is not None else []
        return None if unknown else program, unknown

    def _explain(self, graph: str, signature: Signature, unknown: list[str]) -> Miss:
        """Return why a graph is lowered. unknown: the targets that its kept program calls and nothing registered."""
        if unknown:
            return unregistered(graph, signature.key, unknown)
        return self._neighbours.explain_program(graph, signature)

    def known_program(self, graph: str, platform: str, key: str) -> Program | None:
        """Return the program that is kept under a key, or None, which counts as no miss: the graph is traced again."""
        program, _ = self._find(key, platform)
        if program is not None:
            self._found(graph, key, program)
        return program

    def _found(self, graph: str | None, key: str, program: Program, signature: Signature | None = None) -> None:
        record(self.store, programs.KIND, key)
        _log_lookup(graph, programs.KIND, key, True, 0.0, signature)
        self._statistics.count("cache_hits", "signature")
        if graph:
            self._recognised.add(program.digest)
            _record_event("signature", "hit")

    def executable(
        self,
        maker: executables.Maker,
        stablehlo: bytes,
        digest: str,
        graph: str | None = None,
        others: executables.Others | None = None,
        operations: Sequence[str] = (),
    ) -> executables.Obtained:
        """Return the executable of a program, from the store or compiled and then kept there. Raises what XLA raises.

        graph: the name of the program's graph, None for an eager operator. others: the job's other processes, one of
        which compiles. operations: the names of the graph's operations in stablehlo.
        """
        started = time.perf_counter()
        found = executables.obtain(self.store, maker, stablehlo, digest, others, operations)
        key = executables.executable_key(digest, maker.environment)
        record(self.store, executables.KIND, key)
        _log_lookup(graph, executables.KIND, key, found.level is not None, time.perf_counter() - started)
        for level in found.asked:
            self._statistics.count("cache_hits" if level == found.level else "cache_misses", level)
        if found.level is None:
            self._statistics.count("xla_compiles")
        if graph is not None and found.level is not None:
            _record_event(found.level, "hit")
        elif graph is not None and digest in self._recognised:
            self._report(self._neighbours.explain_executable(graph, maker, digest))
        elif graph is not None:
            _record_event("disk", "miss", {"reason": "its program is new"})
        return found

    def explain_executable(self, graph: str, maker: executables.Maker, digest: str) -> Miss:
        """Return why the store has no executable of a program that it has."""
        return self._neighbours.explain_executable(graph, maker, digest)

    def _miss(self, miss: Miss | None) -> None:
        self._statistics.count("cache_misses", "signature")
        if miss is not None:
            self._report(miss)

    def _report(self, miss: Miss) -> None:
        self._missed(miss)
        log.info("%s", miss)
        log.debug("graph %s, against the entry %s: %s", miss.graph, miss.nearest, "; ".join(miss.reasons))
        reason = "; ".join(miss.reasons)
        details = {"reason": reason, "owner": miss.owner or f"graph {miss.graph}", "summary": miss.summary or reason}
        _record_event(miss.level, "miss", details)
        append_record(lambda: {"graph": miss.graph, "kind": "miss", "why": str(miss)})


def _record_event(level: str, outcome: str, details: dict[str, str] | None = None) -> None:
    record_event("cache", lambda: {"level": level, "outcome": outcome, **(details or {})})


def _log_lookup(
    graph: str | None, kind: str, key: str, found: bool, seconds: float, signature: Signature | None = None
) -> None:
    """Record a look-up for `tpu-dynamo run`. graph: None for an eager operator. seconds: that it took."""

    def fields() -> dict[str, Any]:
        line = {"graph": graph, "kind": kind, "key": key, "found": found, "seconds": round(seconds, 4)}
        if signature is not None and graph is not None:
            line |= {"role": signature.explanation["role"], "inputs": signature.explanation["inputs"]}
            line["platform"] = signature.key_parts["platform"]
        return line

    append_record(fields)
