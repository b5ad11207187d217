"""Makers of executables that span the devices of several ranks."""

from __future__ import annotations

from typing import Any

from tpu_dynamo_runtime import Client, Environment, Span, XlaFlags

from .flagged import PlatformMaker


class SpanningMaker:
    """A maker of executables for the devices of some ranks of the job.

    Its environment says how many they are and how they lie to each other, never which: other ranks whose devices lie
    so find the same executables.
    """

    def __init__(self, client: Client, span: Span):
        self.platform = client.platform
        self._client = client
        self._span = span

    @property
    def fast_memory(self) -> int | None:
        """The client's."""
        return self._client.fast_memory

    @property
    def environment(self) -> Environment:
        """The client's environment, the number of replicas, and their devices' places."""
        places = [",".join(map(str, each)) for each in self._client.assignment_of(self._span)]
        return {**self._client.environment, "replicas": str(len(self._span)), "places": " ".join(places)}

    def compile(self, stablehlo: bytes, flags: XlaFlags = ()) -> Any:
        """Compile MLIR bytecode with one `@main` for these devices. Raises what the client raises."""
        return self._client.compile(stablehlo, flags, self._span)

    def serialise(self, executable: Any) -> bytes:
        """Return an executable as bytes."""
        return self._client.serialise(executable)

    def deserialise(self, data: bytes) -> Any:
        """Load an executable on these devices. Raises what the client raises."""
        return self._client.deserialise(data, self._span)


def spanning(client: Client, span: Span) -> PlatformMaker:
    """Return a maker for the devices of `span`; the client itself, for its own device, where that is empty."""
    return SpanningMaker(client, span) if span else client
