"""Explanations of misses: why something was not in the cache, in one line and exactly, against the nearest entry."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tpu_dynamo_runtime.store import Store, latest

from . import executables, programs
from .differences import differences, program_differences
from .entries import explains
from .signature import Signature
from .summaries import NEW, graph_name, is_near, summarise

log = logging.getLogger("tpu_dynamo.cache")

# So many of the latest entries are compared with; reading them takes about 0.1 ms each, once in a process.
_LATEST = 256


@dataclass(frozen=True)
class Miss:
    """A look-up in the cache that found nothing.

    graph: as logs and dump folders name it. level: `signature` where the graph had to be lowered, `disk` where its
    program was known and XLA had to compile it. nearest: the key of the entry that came closest, if there was any.
    reasons: each difference from it, or why nothing can be found. owner: the function that the graph belongs to, as
    `Net, backward`. summary: the reason in one line; `new` where nothing like the graph was kept.
    """

    graph: str
    level: str
    nearest: str | None
    reasons: tuple[str, ...]
    owner: str = ""
    summary: str = ""

    def __str__(self) -> str:
        whose = f"graph {self.graph}" + (f" ({self.owner})" if self.owner else "")
        if self.summary == NEW:
            return f"{whose}: not in the cache: it is new, nothing like it was compiled before"
        what = "not in the cache" if self.level == "signature" else "its executable is not in the cache"
        return f"{whose}: {what}: {self.summary or '; '.join(self.reasons)}"


class Neighbours:
    """The metadata of a store's latest entries, read once; those that this process makes are added."""

    def __init__(self, store: Store):
        self._store = store
        self._programs: dict[str, Mapping[str, Any]] | None = None
        self._environments: dict[str, dict[str, Mapping[str, Any]]] | None = None
        self._forwards: dict[str, str] = {}  # why the latest forward graph of a function was not there

    def explain_program(self, graph: str, signature: Signature) -> Miss:
        """Say why there is no program of a graph."""
        if self._programs is None:
            listed = latest(self._store, programs.KIND, _LATEST)
            self._programs = {one.key: one.metadata for one in listed if explains(one.metadata)}
        made = {"program": None, "key_parts": signature.key_parts, "explanation": signature.explanation}
        known, self._programs = self._programs, {**self._programs, signature.key: made}
        owner = graph_name(str(signature.explanation.get("function", "")), str(signature.explanation["role"]))
        near = heapq.nsmallest(1, known, key=lambda key: _distance(known[key], signature))
        if not near:
            return Miss(graph, "signature", None, ("there are no programs in the cache yet",), owner, NEW)
        was, now = known[near[0]], {"key_parts": signature.key_parts, "explanation": signature.explanation}

        def texts() -> tuple[str | None, str | None]:
            return self._graph(near[0]), signature.text

        exact = program_differences(was, now, texts) or ["the entry was removed or could not be read"]
        summary = summarise(was, now, texts, signature.line) if is_near(was, now, texts) else NEW
        return Miss(graph, "signature", near[0], tuple(exact), owner, self._summary(signature, summary))

    def _summary(self, signature: Signature, summary: str) -> str:
        """Return the summary of a graph; a backward graph that changed with its forward graph has that graph's."""
        function, role = str(signature.explanation.get("function", "")), signature.explanation["role"]
        if role == "forward":
            self._forwards[function] = summary
        return self._forwards.pop(function, summary) if role == "backward" else summary

    def _graph(self, key: str) -> str | None:
        found = self._store.get(programs.KIND, key, only=("graph",), remote=False)
        return found.sections["graph"].decode(errors="replace") if found is not None else None

    def explain_executable(self, graph: str, maker: executables.Maker, digest: str) -> Miss:
        """Say why there is no executable of a program that was found."""
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
    """Return the miss of a graph that has no signature."""
    reason = f"the graph holds {why}, so that no other process could recognise it"
    return Miss(graph, "signature", None, (reason,), summary=reason)


def unregistered(graph: str, key: str, targets: Sequence[str]) -> Miss:
    """Return the miss of a graph whose program is there, but calls targets that this process has not registered."""
    return Miss(graph, "signature", key, (f"it calls {', '.join(targets)}, which nothing here has registered",))


def _distance(entry: Mapping[str, Any], signature: Signature) -> tuple[int, ...]:
    """Return a sort key of an entry: smallest for the same graph.

    Then come those of the same function, of the same code, of the same role, and with few differences.
    """
    was, now = entry["explanation"], signature.explanation
    other_graph = entry["key_parts"].get("graph") != signature.key_parts.get("graph")
    other_function = other_graph and (was.get("function"), was["role"]) != (now.get("function"), now["role"])
    apart = sum(entry["key_parts"].get(name) != value for name, value in signature.key_parts.items())
    inputs, own = was["inputs"], now["inputs"]
    others = len(inputs.keys() ^ own.keys()) + sum(inputs[name] != own[name] for name in inputs.keys() & own.keys())
    return other_function, was["code"] != now["code"], was["role"] != now["role"], apart + others
