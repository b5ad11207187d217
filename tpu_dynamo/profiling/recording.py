"""A run as it is noted while it runs, before anything is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from .sampling import Place

# PyTorch's ranges, and PJRT's annotations, around our calls begin so.
OURS = "tpu_dynamo: "


@dataclass(frozen=True)
class Execution:
    """One call of PJRT that runs a program. start, end: of the call, in nanoseconds since the epoch.

    program: its number among the recording's. place: the user's line that led to it. call: its number in PJRT's trace.
    """

    call: int
    program: int
    start: int
    end: int
    thread: int
    place: Place | None


@dataclass(frozen=True)
class Span:
    """A copy between host and device, or a compile, with the user's line that asked for it."""

    kind: Literal["transfer", "compile"]
    what: str
    start: int
    end: int
    thread: int
    place: Place | None
    nbytes: int = 0


@dataclass(frozen=True)
class TorchRange:
    """An operator, or another range that PyTorch's own profiler records. thread: by PyTorch's count."""

    name: str
    start: int
    end: int
    thread: int


@dataclass(frozen=True)
class RecordedProgram:
    """A program that ran. hlo: as XLA optimised it. described: its graph; empty for an eager operator.

    operations: the names of the graph's operations, by which the hlo calls them; None where nobody knows them, since no
    graph was traced. ambiguous: lines of theirs that were one with others when the program was compiled.
    """

    described: str
    hlo: str
    operations: Sequence[str] | None = None
    ambiguous: frozenset[Place] = frozenset()


@dataclass
class Recording:
    """A run from `begin` to `end`, in nanoseconds since the epoch.

    marks: times at which the caller said that a step ends. torch_ranges: None where PyTorch's profiler was not ours to
    use. xspace: of PJRT's profiler; empty where another session ran.
    """

    begin: int = 0
    end: int = 0
    platform: str = ""
    executions: list[Execution] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    samples: list[tuple[int, Place | None]] = field(default_factory=list)
    torch_ranges: list[TorchRange] | None = None
    programs: list[RecordedProgram] = field(default_factory=list)
    xspace: bytes = b""
