"""Why something was not in the cache: the nearest entry, and what differs, in words."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tpu_dynamo_runtime.store import Store, latest

from ..signature import Signature
from . import executables, programs
from .differences import differences, first_difference, input_differences

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
            self._programs = {one.key: one.metadata for one in listed if _explains(one.metadata)}
        made = {"program": None, "keyed": signature.keyed, "told": signature.told}
        known, self._programs = self._programs, {**self._programs, signature.key: made}
        near = heapq.nsmallest(1, known, key=lambda key: _distance(known[key], signature))
        if not near:
            return Miss(graph, "signature", None, ("there are no programs in the cache yet",))
        return Miss(graph, "signature", near[0], tuple(self._program_reasons(near[0], known[near[0]], signature)))

    def _program_reasons(self, key: str, entry: Mapping[str, Any], signature: Signature) -> list[str]:
        was, now, keyed = entry["told"], signature.told, dict(signature.keyed)
        before = dict(entry["keyed"])
        graph_differs = before.pop("graph", None) != keyed.pop("graph")
        reasons = differences(before, keyed)
        if not graph_differs:
            return reasons or ["the entry was removed or could not be read"]
        inputs = input_differences(was["inputs"], now["inputs"])
        if was["role"] != now["role"]:
            reasons.append(f"it is a {now['role']} graph, that was a {was['role']} graph")
        if was["code"] == now["code"] and inputs:
            return reasons + inputs
        found = self._store.get(programs.KIND, key, only=("graph",), remote=False)
        operation = (
            first_difference(found.sections["graph"].decode(errors="replace"), signature.text) if found else None
        )
        told = differences({"guards": was["guards"]}, {"guards": now["guards"]})
        return reasons + ([operation] if operation else ["the graph differs"]) + inputs[:8] + told[:4]

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


def _explains(metadata: Mapping[str, Any]) -> bool:
    """Whether an entry's metadata is what `programs.keep` writes: a file is not believed."""
    keyed, told = metadata.get("keyed"), metadata.get("told")
    if not isinstance(keyed, Mapping) or not isinstance(told, Mapping) or not isinstance(told.get("inputs"), Mapping):
        return False
    parts = all(name in told for name in ("role", "code", "guards"))
    return parts and all(isinstance(each, Mapping) for each in told["inputs"].values())


def _distance(entry: Mapping[str, Any], signature: Signature) -> tuple[int, ...]:
    """Small for entries of the same code, then for those of which few parts differ."""
    was, now = entry["told"], signature.told
    apart = sum(entry["keyed"].get(name) != value for name, value in signature.keyed.items())
    inputs, own = was["inputs"], now["inputs"]
    others = len(inputs.keys() ^ own.keys()) + sum(inputs[name] != own[name] for name in inputs.keys() & own.keys())
    return was["code"] != now["code"], was["role"] != now["role"], apart + others
