"""What became of a case in its worker, and what it took."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class Stages:
    """The stages of a case with their seconds; tells each when it begins."""

    def __init__(self, tell: Callable[[str], None]):
        self.seconds: dict[str, float] = {}
        self._tell = tell
        self._now = ""
        self._since = time.perf_counter()

    def __call__(self, stage: str) -> None:
        """`stage` begins, and what was before it ends."""
        now = time.perf_counter()
        if self._now:
            self.seconds[self._now] = self.seconds.get(self._now, 0.0) + now - self._since
        self._since = now
        if stage and stage != self._now:
            self._tell(stage)
        self._now = stage


@dataclass
class Outcome:
    """What became of a case: plain data.

    state: `made`, `found` where everything was in the cache already, `missing` where a check found less, `failed`.
    kind: of a failure: `usage`, `failed` or `environment`. why: of one. entries: kinds and keys. seconds: by stage.
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
        """The outcome as plain data, ready for JSON."""
        return dataclasses.asdict(self)
