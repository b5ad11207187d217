"""A profile as plain data: what the views show, and what is kept as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

# Parts of a host's time, each moment in one of them. `execution` is the time in which the host waits for the device.
PARTS: tuple[str, ...] = ("guards", "dispatch", "transfer", "execution", "compile", "host")
Parts = dict[str, float]


@dataclass(frozen=True)
class Step:
    """One step. start: seconds after the profile began. parts: the host's; device: seconds in which that was busy."""

    number: int
    start: float
    seconds: float
    parts: Parts
    device: float


@dataclass(frozen=True)
class GraphTime:
    """A compiled graph, or all eager operators. parts: seconds over all its calls; execution is the device's.

    split: how its execution was split by operation: measured by PJRT's `profiler`, by XLA's estimated `cost`, or not.
    """

    name: str
    calls: int
    parts: Parts
    split: Literal["profiler", "cost", "none"]


@dataclass(frozen=True)
class LineTime:
    """A line of the user's; file and line are None for what belongs to none. operators: that it ran, longest first."""

    file: str | None
    line: int | None
    text: str
    parts: Parts
    operators: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """The sum of its parts."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class OperationTime:
    """An operation of an optimised program, with the user's operation that it was made for."""

    graph: str
    operation: str
    opcode: str
    operator: str
    module: str
    file: str | None
    line: int | None
    calls: int
    seconds: float


@dataclass(frozen=True)
class Event:
    """A bar of the timeline. lane: `host`, `calls`, `device` or `torch`. start: seconds after the profile began."""

    lane: str
    name: str
    kind: str
    start: float
    seconds: float


@dataclass(frozen=True)
class Profile:
    """The time of a run, and where it went.

    seconds: the whole of it. device_seconds: in which the device was busy. synchronous: True if the host waits for each
    program, as with the CPU client; then the lines' seconds add up to the whole, else to the host's time without
    waiting, and the device's. transfers: bytes and seconds by direction. notes: what could not be measured, and why.
    """

    platform: str
    synchronous: bool
    seconds: float
    parts: Parts
    device_seconds: float
    steps: tuple[Step, ...]
    graphs: tuple[GraphTime, ...]
    lines: tuple[LineTime, ...]
    operations: tuple[OperationTime, ...]
    events: tuple[Event, ...]
    transfers: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()

    @property
    def whole(self) -> float:
        """The seconds that the lines add up to."""
        waits = 0.0 if self.synchronous else self.parts["execution"]
        return self.seconds if self.synchronous else self.seconds - waits + self.device_seconds

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain data, ready for JSON."""
        return {"schema": 1, **asdict(self)}


def profile_of(data: Mapping[str, Any]) -> Profile:
    """Return the profile of which `Profile.as_dict` made this data. Raises ValueError for other data."""
    if data.get("schema") != 1:
        raise ValueError("the data is no profile of this version")
    kinds = {"steps": Step, "graphs": GraphTime, "lines": LineTime, "operations": OperationTime, "events": Event}
    given = {name: value for name, value in data.items() if name != "schema"}
    for name, kind in kinds.items():
        given[name] = tuple(kind(**row) for row in data[name])
    for name in ("notes", "command"):
        given[name] = tuple(data[name])
    return Profile(**given)
