"""Why something was not in the cache: the nearest entry, and what differs, in words."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tpu_dynamo_runtime.store import Store, latest

from ..signature import Signature
from . import executables, programs
from .differences import differences, program_differences
from .entries import explains

log = logging.getLogger("tpu_dynamo.cache")

# So many of the latest entries are compared with; reading them takes about 0.1 ms each, once in a process.
_LATEST = 256


@dataclass(frozen=True)
class Miss:
    """One look into the cache that found nothing.

    graph: as logs and dump folders name it. level: `signature` where the graph had to be lowered, `disk` where its
    program was known and XLA had to compile it. nearest: the key of the entry that came closest, if there was any.
    reasons: what differs from it, or why nothing can be found.
    """

    graph: str
    level: str
    nearest: str | None
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        what = "its program" if self.level == "signature" else "the executable of its program"
        against = f"; against the nearest entry, {self.nearest[:12]}:" if self.nearest else ":"
        return f"graph {self.graph}: {what} was not in the cache{against} {'; '.join(self.reasons)}"


class Neighbours:
    """The metadata of a store's latest entries, read once; entries of this process come to them as it makes them."""

    def __init__(self, store: Store):
        self._store = store
        self._programs: dict[str, Mapping[str, Any]] | None = None
        self._environments: dict[str, dict[str, Mapping[str, Any]]] | None = None

    def explain_program(self, graph: str, signature: Signature) -> Miss:
        """Why there is no program of a graph."""
        if self._programs is None:
            listed = latest(self._store, programs.KIND, _LATEST)
            self._programs = {one.key: one.metadata for one in listed if explains(one.metadata)}
        made = {"program": None, "keyed": signature.keyed, "told": signature.told}
        known, self._programs = self._programs, {**self._programs, signature.key: made}
        near = heapq.nsmallest(1, known, key=lambda key: _distance(known[key], signature))
        if not near:
            return Miss(graph, "signature", None, ("there are no programs in the cache yet",))
        now = {"keyed": signature.keyed, "told": signature.told}
        reasons = program_differences(known[near[0]], now, lambda: (self._graph(near[0]), signature.text))
        return Miss(graph, "signature", near[0], tuple(reasons) or ("the entry was removed or could not be read",))

    def _graph(self, key: str) -> str | None:
        found = self._store.get(programs.KIND, key, only=("graph",), remote=False)
        return found.sections["graph"].decode(errors="replace") if found is not None else None

    def explain_executable(self, graph: str, maker: executables.Maker, digest: str) -> Miss:
        """Why there is no executable of a program that was found."""
        if self._environments is None:
            self._environments = {}
            for listed in latest(self._store, executables.KIND, _LATEST):
                program = self._environments.setdefault(str(listed.metadata.get("program")), {})
                environment = listed.metadata.get("environment")
                program[listed.key] = environment if isinstance(environment, Mapping) else {}
        own = executables.executable_key(digest, maker.environment)  # by now it may have been made
        known = {key: parts for key, parts in self._environments.get(digest, {}).items() if key != own}
        self._environments.setdefault(digest, {})[own] = maker.environment
        found = {key: differences(environment, maker.environment) for key, environment in known.items()}
        near = min(found, key=lambda key: len(found[key]), default=None)
        if near is None:
            return Miss(graph, "disk", None, ("it was never kept, or was removed",))
        return Miss(graph, "disk", near, tuple(found[near]))


def unnameable(graph: str, why: Exception) -> Miss:
    """The miss of a graph that has no signature."""
    return Miss(graph, "signature", None, (f"the graph holds {why}, so that no other process could recognise it",))


def unregistered(graph: str, key: str, targets: Sequence[str]) -> Miss:
    """The miss of a graph whose program is there, and calls what nothing in this process has registered."""
    return Miss(graph, "signature", key, (f"it calls {', '.join(targets)}, which nothing here has registered",))


def _distance(entry: Mapping[str, Any], signature: Signature) -> tuple[int, ...]:
    """Small for entries of the same code, then for those of which few parts differ."""
    was, now = entry["told"], signature.told
    apart = sum(entry["keyed"].get(name) != value for name, value in signature.keyed.items())
    inputs, own = was["inputs"], now["inputs"]
    others = len(inputs.keys() ^ own.keys()) + sum(inputs[name] != own[name] for name in inputs.keys() & own.keys())
    return was["code"] != now["code"], was["role"] != now["role"], apart + others
