"""The device's time: which execution each operation belongs to, and how the time splits among operations."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from tpu_dynamo_runtime.device_trace import DeviceEvent, DeviceTrace

from .programs import RanProgram
from .recording import Execution
from .sweep import Interval, innermost, layered, share


@dataclass
class DeviceTime:
    """A device's time, by execution.

    times: nanoseconds of an operation of an execution, both by number and name; they add up to the busy time. calls:
    how often each operation of a program ran. busy: the stretches in which anything ran, each of one execution. owners:
    the execution of each event of the trace, None for events of no program of ours.
    """

    times: defaultdict[tuple[int | None, str], float] = field(default_factory=lambda: defaultdict(float))
    calls: Counter[tuple[int | None, str]] = field(default_factory=Counter)
    busy: list[Interval[int | None]] = field(default_factory=list)
    owners: list[int | None] = field(default_factory=list)

    @property
    def total(self) -> float:
        """Nanoseconds in which the device was busy."""
        return sum(self.times.values())

    def of_executions(self) -> defaultdict[int | None, float]:
        """Return the nanoseconds of each execution."""
        found: defaultdict[int | None, float] = defaultdict(float)
        for (execution, _), time in self.times.items():
            found[execution] += time
        return found


def device_time(trace: DeviceTrace, executions: Sequence[Execution], programs: Sequence[RanProgram]) -> DeviceTime:
    """Split a device's time. executions: in the order of their starts."""
    found = DeviceTime(owners=_owners(trace, executions, programs))
    lanes: dict[str, list[Interval[tuple[int | None, str]]]] = defaultdict(list)
    for event, owner in zip(trace.operations, found.owners, strict=True):
        lanes[event.lane].append(Interval(event.start, event.end, (owner, event.operation)))
        found.calls[None if owner is None else executions[owner].program, event.operation] += 1
    pieces = [innermost(lane) for lane in lanes.values()]
    active = share(pieces)
    found.times = active.times
    for owner, of_owner in _by_owner(pieces).items():
        found.busy += [Interval(each.start, each.end, owner) for each in share(of_owner).busy]
    _add_pending(found, trace, active.busy)
    found.busy.sort(key=lambda each: each.start)
    return found


def _add_pending(found: DeviceTime, trace: DeviceTrace, active: Sequence[Interval[None]]) -> None:
    """Add the moments in which no operation runs by itself, to one that left work to other threads."""
    pending: list[Interval[tuple[int | None, str] | None]] = [
        Interval(event.end, event.pending_until, (owner, event.operation))
        for event, owner in zip(trace.operations, found.owners, strict=True)
        if event.pending_until is not None
    ]
    if not pending:
        return
    running: list[Interval[tuple[int | None, str] | None]] = [Interval(each.start, each.end, None) for each in active]
    end = max(each.end for each in pending)
    for piece in layered(pending[0].start, end, [running, pending]):
        if piece.about is not None:
            found.times[piece.about] += piece.length
            found.busy.append(Interval(piece.start, piece.end, piece.about[0]))


def _by_owner(
    lanes: Sequence[Sequence[Interval[tuple[int | None, str]]]],
) -> dict[int | None, list[list[Interval[tuple[int | None, str]]]]]:
    found: dict[int | None, list[list[Interval[tuple[int | None, str]]]]] = {}
    for lane in lanes:
        split: dict[int | None, list[Interval[tuple[int | None, str]]]] = defaultdict(list)
        for piece in lane:
            split[piece.about[0]].append(piece)
        for owner, pieces in split.items():
            found.setdefault(owner, []).append(pieces)
    return found


def _owners(trace: DeviceTrace, executions: Sequence[Execution], programs: Sequence[RanProgram]) -> list[int | None]:
    starts = [trace.calls.get(each.call, each.start) for each in executions]

    def launched_by(event: DeviceEvent) -> int | None:
        """Find the last execution that began before the event was launched, of a program that has such an operation."""
        assert event.launched is not None
        at = bisect_right(starts, event.launched) - 1
        for number in range(at, max(-1, at - 16), -1):
            if programs[executions[number].program].has(event.operation):
                return number
        # A library's kernel, which no instruction is named by.
        return at if at >= 0 and event.launched <= executions[at].end else None

    in_order = _in_order(trace.operations, executions, programs)
    known: dict[tuple[str, str], int | None] = {}
    found: list[int | None] = []
    for event in trace.operations:
        if event.launched is None:
            found.append(in_order.get(event.run))
        elif trace.synchronous:
            # All operations of a run have one owner; one that the HLO does not name has that of the others.
            key = (event.run, "")
            if known.get(key) is None:
                known[key] = launched_by(event)
            found.append(known[key])
        else:
            found.append(launched_by(event))
    return found


def _in_order(
    events: Sequence[DeviceEvent], executions: Sequence[Execution], programs: Sequence[RanProgram]
) -> dict[str, int]:
    """Return the executions of runs of which the trace knows no launch: a device runs programs in their order.

    From the last on, since a device may still run, when a profile begins, what was launched before.
    """
    runs: dict[str, set[str]] = {}
    for event in events:
        if event.launched is None and event.run:
            runs.setdefault(event.run, set()).add(event.operation)
    paired: dict[str, int] = {}
    number = len(executions) - 1
    for run, operations in reversed(runs.items()):
        while number >= 0:
            program = programs[executions[number].program]
            number -= 1
            if any(map(program.has, operations)):
                paired[run] = number + 1
                break
    return paired
