"""Makers of executables with flags of XLA, which are part of their compile environment."""

from __future__ import annotations

from typing import Any, Protocol

from tpu_dynamo_runtime import Environment, XlaFlags, with_flags

from .executables import Maker


class PlatformMaker(Maker, Protocol):
    """A maker of executables for one platform, which takes flags: a client, or the compiler of a topology."""

    platform: str

    @property
    def fast_memory(self) -> int | None:
        """The bytes of memory next to the matrix unit, None where that is not known."""
        ...

    def compile(self, stablehlo: bytes, flags: XlaFlags = ()) -> Any:
        """Compile MLIR bytecode with one `@main`."""
        ...


class FlaggedMaker:
    """A maker that compiles with some flags, and has them in its environment."""

    def __init__(self, maker: PlatformMaker, flags: XlaFlags):
        self.platform = maker.platform
        self._maker = maker
        self._flags = flags

    @property
    def fast_memory(self) -> int | None:
        """The maker's."""
        return self._maker.fast_memory

    @property
    def environment(self) -> Environment:
        """The maker's environment and the flags."""
        return with_flags(self._maker.environment, self._flags)

    def compile(self, stablehlo: bytes, flags: XlaFlags = ()) -> Any:
        """Compile MLIR bytecode with these flags before the others. Raises what the maker raises."""
        return self._maker.compile(stablehlo, tuple({**dict(self._flags), **dict(flags)}.items()))

    def serialise(self, executable: Any) -> bytes:
        """Return an executable as bytes."""
        return self._maker.serialise(executable)

    def deserialise(self, data: bytes) -> Any:
        """Return the executable that `serialise` turned into bytes."""
        return self._maker.deserialise(data)


def flagged(maker: PlatformMaker, flags: XlaFlags) -> PlatformMaker:
    """Return a maker that compiles with these flags; the same one where there are none."""
    return FlaggedMaker(maker, flags) if flags else maker
