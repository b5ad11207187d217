"""Seconds by stage, of stages that run within one another."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class StageClock:
    """Seconds by stage, each without those of the stages that it called; threads count side by side."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = threading.local()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the time within the context to a stage, and no longer to the one around it."""
        around: list[float] | None = getattr(self._running, "inner", None)
        inner = self._running.inner = [0.0]
        started = time.perf_counter()
        try:
            yield
        finally:
            whole = time.perf_counter() - started
            self._running.inner = around
            if around is not None:
                around[0] += whole
            self.add(stage, whole - inner[0])

    def move(self, stage: str, seconds: float) -> None:
        """Count time that has just passed within the running stage to another one."""
        if (inner := getattr(self._running, "inner", None)) is not None:
            inner[0] += seconds
        self.add(stage, seconds)

    def add(self, stage: str, seconds: float) -> None:
        """Count time that passed outside of every stage."""
        with self._lock:
            self._seconds[stage] += seconds

    def seconds(self) -> dict[str, float]:
        """Return the seconds so far."""
        with self._lock:
            return dict(self._seconds)

    def reset(self) -> None:
        """Let every stage begin at zero."""
        with self._lock:
            self._seconds.clear()

    def after_fork(self) -> None:
        """Take a new lock in a forked child: a thread that stayed in the parent may hold the old one."""
        self._lock = threading.Lock()
        self._running = threading.local()
