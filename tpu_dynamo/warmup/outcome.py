"""The outcome of a case in its worker, and the time of its stages."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class StageTimer:
    """The seconds of each stage of a case. report: called with each stage when it begins."""

    def __init__(self, report: Callable[[str], None]):
        self.seconds: dict[str, float] = {}
        self._report = report
        self._now = ""
        self._since = time.perf_counter()

    def __call__(self, stage: str) -> None:
        """End the stage before, and begin `stage`, or none if it is empty."""
        now = time.perf_counter()
        if self._now:
            self.seconds[self._now] = self.seconds.get(self._now, 0.0) + now - self._since
        self._since = now
        if stage and stage != self._now:
            self._report(stage)
        self._now = stage


@dataclass
class CaseOutcome:
    """The outcome of a case, as plain data.

    state: `made`, `found` where everything was in the cache already, `missing` where a check found less, `failed`.
    kind, why: of a failure, the kind being `usage`, `failed` or `environment`. entries: kinds and keys in the cache.
    missing: why things were not in the cache. seconds: by stage. pushed: entries written to the remote tier.
    """

    state: str = "failed"
    kind: str = ""
    why: str = ""
    graphs: list[dict[str, Any]] = field(default_factory=list)
    entries: list[tuple[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    lowerings: int = 0
    xla_compiles: int = 0
    pushed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the outcome as a dictionary, ready for JSON."""
        return dataclasses.asdict(self)
