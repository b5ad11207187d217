"""Where compiling is forbidden: the error, and makers of executables that raise it."""

from __future__ import annotations

from typing import Any

from tpu_dynamo_lowering import with_code
from tpu_dynamo_runtime import Environment, XlaFlags

from .flagged import PlatformMaker


class CompileForbidden(RuntimeError):
    """A program would have been compiled where `forbid_compile` promises that none is.

    what: the graph or operator. why: the reason that it was not there.
    """

    code = "TPU402"

    def __init__(self, what: str, why: str):
        self.what, self.why = what, why
        message = (
            f"{what} is not compiled yet, and compiling is forbidden here\n"
            f"  why: {why}\n"
            "  try: compile it before, by a call outside of forbid_compile or by `tpu-dynamo warmup`; for lengths\n"
            '  that change, options={"buckets": "pow2"} needs few programs'
        )
        super().__init__(with_code(message, self.code))


class ForbiddenMaker:
    """A maker that loads executables and compiles none."""

    def __init__(self, maker: PlatformMaker, what: str):
        self.platform = maker.platform
        self._maker = maker
        self._what = what

    @property
    def fast_memory(self) -> int | None:
        """The maker's."""
        return self._maker.fast_memory

    @property
    def environment(self) -> Environment:
        """The maker's."""
        return self._maker.environment

    def compile(self, stablehlo: bytes, flags: XlaFlags = ()) -> Any:
        """Raise CompileForbidden."""
        raise CompileForbidden(
            self._what, "its program is known, and the cache has no executable of it for this machine"
        )

    def serialise(self, executable: Any) -> bytes:
        """Return an executable as bytes."""
        return self._maker.serialise(executable)

    def deserialise(self, data: bytes) -> Any:
        """Return the executable that `serialise` turned into bytes."""
        return self._maker.deserialise(data)
