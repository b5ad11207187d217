"""Makers of executables that are timed."""

from __future__ import annotations

from typing import Any

from tpu_dynamo_runtime import Environment, StageClock, XlaFlags

from ..statistics import LOADING, XLA
from .flagged import PlatformMaker


class TimedMaker:
    """A maker of executables whose compiling and loading is counted."""

    def __init__(self, maker: PlatformMaker, clock: StageClock):
        self.platform = maker.platform
        self._maker = maker
        self._clock = clock

    @property
    def environment(self) -> Environment:
        """The maker's environment."""
        return self._maker.environment

    @property
    def fast_memory(self) -> int | None:
        """The bytes of memory next to the matrix unit, None where that is not known."""
        return self._maker.fast_memory

    def compile(self, stablehlo: bytes, flags: XlaFlags = ()) -> Any:
        """Compile MLIR bytecode with one `@main`."""
        with self._clock.timed(XLA):
            return self._maker.compile(stablehlo, flags)

    def serialise(self, executable: Any) -> bytes:
        """Return an executable as bytes."""
        return self._maker.serialise(executable)

    def deserialise(self, data: bytes) -> Any:
        """Return the executable that `serialise` turned into bytes."""
        with self._clock.timed(LOADING):
            return self._maker.deserialise(data)
