"""One store, looked into at both levels: what is found, what is made and kept, and why."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
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
        self, graph: str | None, platform: str, sign: Callable[[], Signature], lower: Callable[[], Program]
    ) -> tuple[Program, str | None]:
        """The program of a graph: from the store, or lowered and then kept there. Raises what `lower` raises.

        graph: its name, None for an eager operator, of which a miss is counted alone. platform: where it is to run;
        what its custom calls need there is set up, and a program that calls what nothing has registered is a miss.
        Beside the program stands the key under which other processes find it, None where they cannot.
        """
        try:
            signature = sign()
        except NoStableKey as why:
            self._miss(unnameable(graph, why) if graph else None)
            return lower(), None
        program, unknown = self._find(signature.key, platform, remote=False)
        if program is None:
            with self.store.exclusive(programs.KIND, signature.key):
                # Another process may have made it in the meantime.
                program, unknown = self._find(signature.key, platform)
                if program is None:
                    self._miss(self._explain(graph, signature, unknown) if graph else None)
                    started = time.perf_counter()
                    program = lower()
                    programs.keep(self.store, signature, program)
                    record(self.store, programs.KIND, signature.key)
                    _note(graph, programs.KIND, signature.key, False, time.perf_counter() - started, signature)
                    return program, signature.key
        self._found(graph, signature.key, program, signature)
        return program, signature.key

    def _find(self, key: str, platform: str, *, remote: bool = True) -> tuple[Program | None, list[str]]:
        """The program that is kept under a key and can run here; else None, and the targets that are not registered."""
        program = programs.find(self.store, key, remote=remote)
        unknown = unknown_targets(platform, program.custom_calls) if program is not None else []
        return None if unknown else program, unknown

    def _explain(self, graph: str, signature: Signature, unknown: list[str]) -> Miss:
        """Why a graph is lowered. unknown: what its program calls and nothing has registered, if it is there."""
        if unknown:
            return unregistered(graph, signature.key, unknown)
        return self._neighbours.explain_program(graph, signature)

    def known_program(self, graph: str, platform: str, key: str) -> Program | None:
        """The program that is kept under a key; a graph that has none is no miss of ours: it is traced again."""
        program, _ = self._find(key, platform)
        if program is not None:
            self._found(graph, key, program)
        return program

    def _found(self, graph: str | None, key: str, program: Program, signature: Signature | None = None) -> None:
        record(self.store, programs.KIND, key)
        _note(graph, programs.KIND, key, True, 0.0, signature)
        self._statistics.count("cache_hits", "signature")
        if graph:
            self._recognised.add(program.digest)
            _record("signature", "hit")

    def executable(self, maker: executables.Maker, stablehlo: bytes, digest: str, graph: str | None = None) -> Any:
        """The executable of a program: from the store, or compiled and then kept there. Raises what XLA raises.

        graph: the name of the graph that it is of, None for an eager operator.
        """
        started = time.perf_counter()
        found = executables.obtain(self.store, maker, stablehlo, digest)
        key = executables.executable_key(digest, maker.environment)
        record(self.store, executables.KIND, key)
        _note(graph, executables.KIND, key, found.level is not None, time.perf_counter() - started)
        for level in found.asked:
            self._statistics.count("cache_hits" if level == found.level else "cache_misses", level)
        if found.level is None:
            self._statistics.count("xla_compiles")
        if graph is not None and found.level is not None:
            _record(found.level, "hit")
        elif graph is not None and digest in self._recognised:
            self._tell(self._neighbours.explain_executable(graph, maker, digest))
        elif graph is not None:
            _record("disk", "miss", {"reason": "its program is new"})
        return found.executable

    def explain_executable(self, graph: str, maker: executables.Maker, digest: str) -> Miss:
        """Why the executable of a known program is not there."""
        return self._neighbours.explain_executable(graph, maker, digest)

    def _miss(self, miss: Miss | None) -> None:
        self._statistics.count("cache_misses", "signature")
        if miss is not None:
            self._tell(miss)

    def _tell(self, miss: Miss) -> None:
        self._missed(miss)
        log.info("%s", miss)
        log.debug("graph %s, against the entry %s: %s", miss.graph, miss.nearest, "; ".join(miss.reasons))
        reason = "; ".join(miss.reasons)
        told = {"reason": reason, "owner": miss.owner or f"graph {miss.graph}", "summary": miss.summary or reason}
        _record(miss.level, "miss", told)
        append_record(lambda: {"graph": miss.graph, "kind": "miss", "why": str(miss)})


def _record(level: str, outcome: str, told: dict[str, str] | None = None) -> None:
    record_event("cache", lambda: {"level": level, "outcome": outcome, **(told or {})})


def _note(
    graph: str | None, kind: str, key: str, found: bool, seconds: float, signature: Signature | None = None
) -> None:
    """Record a look into the cache for `tpu-dynamo run`. graph: None for an eager operator. seconds: that it took."""

    def tell() -> dict[str, Any]:
        line = {"graph": graph, "kind": kind, "key": key, "found": found, "seconds": round(seconds, 4)}
        if signature is not None and graph is not None:
            line |= {"role": signature.told["role"], "inputs": signature.told["inputs"]}
            line["platform"] = signature.keyed["platform"]
        return line

    append_record(tell)
