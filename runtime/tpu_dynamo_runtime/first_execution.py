"""The first execution of a program, timed without a cost to those that follow."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pool import PooledProgram


class FirstExecution:
    """An executable until it has run once: then it puts the executable itself into its place."""

    def __init__(self, entry: PooledProgram, executable: Any, timed: Callable[[], AbstractContextManager[None]]):
        self._entry = entry
        self._executable = executable
        self._timed = timed

    def execute_sharded(self, operands: Any) -> Any:
        """Run as the executable does, and count the time."""
        with self._timed():
            results = self._executable.execute_sharded(operands)
        if self._entry.executable is self:
            self._entry.executable = self._executable
        return results

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executable, name)
