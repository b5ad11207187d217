"""Makers of executables that span the devices of several ranks."""

from __future__ import annotations

from typing import Any, Protocol

from tpu_dynamo_runtime import Environment, Span, XlaFlags

from .flagged import PlatformMaker


class Placing(PlatformMaker, Protocol):
    """A client in a job, or the compiler of a topology: makers that know where the devices of ranks lie."""

    @property
    def environment_in_job(self) -> Environment:
        """The environment of a process of a job."""
        ...

    def assignment_of(self, span: Span) -> list[list[int]]:
        """Return where the devices of ranks lie to each other."""
        ...

    def compile(self, stablehlo: bytes, flags: XlaFlags = (), span: Span = ()) -> Any:
        """Compile MLIR bytecode with one `@main` for the devices of ranks."""
        ...

    def deserialise(self, data: bytes, span: Span = ()) -> Any:
        """Return the executable that `serialise` turned into bytes, for the devices of ranks."""
        ...


class SpanningMaker:
    """A maker of executables for the devices of some ranks of the job.

    Its environment says how many they are and how they lie to each other, never which: other ranks whose devices lie
    so find the same executables.
    """

    def __init__(self, maker: Placing, span: Span):
        self.platform = maker.platform
        self._maker = maker
        self._span = span

    @property
    def fast_memory(self) -> int | None:
        """The maker's."""
        return self._maker.fast_memory

    @property
    def environment(self) -> Environment:
        """The maker's environment in a job, the number of replicas, and their devices' places."""
        places = [",".join(map(str, each)) for each in self._maker.assignment_of(self._span)]
        return {**self._maker.environment_in_job, "replicas": str(len(self._span)), "places": " ".join(places)}

    def compile(self, stablehlo: bytes, flags: XlaFlags = ()) -> Any:
        """Compile MLIR bytecode with one `@main` for these devices. Raises what the maker raises."""
        return self._maker.compile(stablehlo, flags, self._span)

    def serialise(self, executable: Any) -> bytes:
        """Return an executable as bytes."""
        return self._maker.serialise(executable)

    def deserialise(self, data: bytes) -> Any:
        """Load an executable on these devices. Raises what the maker raises."""
        return self._maker.deserialise(data, self._span)


def spanning(maker: Placing, span: Span) -> PlatformMaker:
    """Return a maker for the devices of `span`; the maker itself, for its own device, where that is empty."""
    return SpanningMaker(maker, span) if span else maker
