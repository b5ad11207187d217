"""Reading a trace of PJRT's profiler, an XSpace: the operations that devices ran, and their copies.

Source: `xplane.proto` and `xplane_schema.cc` of XLA name planes, lines and statistics. The CPU client's operations are
events of the host's threads; a CUDA device is a plane `/device:GPU:0` with a line for each stream, a TPU a plane
`/device:TPU:0` with the lines `XLA Modules` and `XLA Ops`.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

# The number of a call that the host makes, as a statistic of the annotation around it.
CALL = "tpu_dynamo_call"
_DEVICE = re.compile(r"/device:(GPU|TPU):\d+$")
# Lines that a converter may have derived from those of a GPU's streams.
_DERIVED = ("Async XLA Ops", "Framework", "Launch Stats", "Source code", "Steps", "XLA Modules", "XLA Ops")
_COPY = re.compile(r"Mem(cpy|set)")
# A TPU's events have the whole instruction as their name.
_INSTRUCTION = re.compile(r"%?([\w.\-]+)")


@dataclass(frozen=True)
class DeviceEvent:
    """An operation that a device ran. start, end: in whole nanoseconds since the epoch.

    lane: the thread, stream or core that it ran on; events of a lane contain each other or lie beside each other.
    operation: its HLO instruction's name; the kernel's own where there is none. run: events of one execution of a
    program have the same. launched: when the host asked for it; None where the trace does not tell. pending_until: the
    end of the work that it left to other threads; None where it left none.
    """

    lane: str
    start: int
    end: int
    operation: str
    run: str
    launched: int | None = None
    pending_until: int | None = None


@dataclass(frozen=True)
class DeviceTrace:
    """The operations that devices ran, and the copies between memories that they made, each in the order of time.

    synchronous: True if the host waits for each program while it runs, as with the CPU client. calls: the starts of the
    host's calls by their numbers, where they are annotated with `CALL`: the trace's clock is not that of Python.
    """

    operations: tuple[DeviceEvent, ...] = ()
    copies: tuple[DeviceEvent, ...] = ()
    synchronous: bool = True
    calls: Mapping[int, int] = field(default_factory=dict)


def read_device_trace(xspace: bytes) -> DeviceTrace:
    """Read a serialised XSpace. Devices come first: the CPU client's operations count where no device has any."""
    from jax.profiler import ProfileData

    planes = {plane.name: plane for plane in ProfileData.from_serialized_xspace(xspace).planes}
    began = _start_of(planes)
    launches: dict[Any, int] = {}
    calls: dict[int, tuple[int, int]] = {}
    host: list[DeviceEvent] = []
    for name, plane in planes.items():
        if name.startswith("/host:"):
            host += _host_events(plane, began, launches, calls)
    operations: list[DeviceEvent] = []
    copies: list[DeviceEvent] = []
    for name, plane in planes.items():
        if (found := _DEVICE.match(name)) is not None:
            read = _tpu_events if found[1] == "TPU" else _gpu_events
            for event, is_copy in read(plane, name, began, launches):
                (copies if is_copy else operations).append(event)
    synchronous = not operations
    operations = _launched_together(host, sorted(calls.values())) if synchronous else operations

    def in_time(events: list[DeviceEvent]) -> tuple[DeviceEvent, ...]:
        return tuple(sorted(events, key=lambda event: event.start))

    return DeviceTrace(in_time(operations), in_time(copies), synchronous, {n: start for n, (start, _) in calls.items()})


def _start_of(planes: dict[str, Any]) -> int:
    """Return the time since the epoch from which the events of a trace are counted."""
    environment = planes.get("Task Environment")
    stats = dict(environment.stats) if environment is not None else {}
    return int(stats.get("profile_start_time", 0))


def _host_events(
    plane: Any, began: int, launches: dict[Any, int], calls: dict[int, tuple[int, int]]
) -> Iterator[DeviceEvent]:
    """Yield a host's operations; note when it launched what has a correlation id, and when numbered calls were made.

    What an operation begins and leaves to other threads is done at the event `end: NAME`, whose consumer id is the
    producer id of the operation's.
    """
    ends: dict[Any, int] = {}
    found: list[tuple[DeviceEvent, Any]] = []
    for number, line in enumerate(plane.lines):
        for event in line.events:
            stats = dict(event.stats)
            start = began + round(event.start_ns)
            if "correlation_id" in stats:
                launches.setdefault(stats["correlation_id"], start)
            if CALL in stats:
                calls[int(stats[CALL])] = start, start + round(event.duration_ns)
            if "hlo_op" in stats and event.duration_ns:
                run = f"{stats.get('program_id', '')}/{stats.get('run_id', '')}"
                lane = f"{line.name} {number}"
                operation = DeviceEvent(lane, start, start + round(event.duration_ns), stats["hlo_op"], run)
                found.append((operation, stats.get("_p")))
            elif event.name.startswith("end: "):
                ends[stats.get("_c")] = start
    for operation, producer in found:
        end = ends.get(producer) if producer is not None else None
        yield operation if end is None or end <= operation.end else replace(operation, pending_until=end)


def _launched_together(events: list[DeviceEvent], calls: list[tuple[int, int]]) -> list[DeviceEvent]:
    """Return the CPU client's operations, which were launched when the first of their run began.

    calls: starts and ends of the host's, in order. Nothing is left to do when the call of a run returns; a thread that
    waits for the processor then notes the end of its work up to a millisecond too late.
    """
    first: dict[str, int] = {}
    for event in events:
        first[event.run] = min(event.start, first.get(event.run, event.start))
    starts = [start for start, _ in calls]

    def launched(event: DeviceEvent) -> DeviceEvent:
        start = first[event.run]
        at = bisect_right(starts, start) - 1
        returned = calls[at][1] if at >= 0 and start <= calls[at][1] else sys.maxsize
        end = max(event.start, min(event.end, returned))
        pending = min(event.pending_until or end, returned)
        return replace(event, end=end, launched=start, pending_until=pending if pending > end else None)

    return list(map(launched, events))


def _gpu_events(plane: Any, name: str, began: int, launches: dict[Any, int]) -> Iterator[tuple[DeviceEvent, bool]]:
    """Yield a GPU's kernels, those of no program too, and its copies, which it does beside them."""
    for number, line in enumerate(plane.lines):
        if line.name.startswith(_DERIVED):
            continue
        for event in line.events:
            stats = dict(event.stats)
            start = began + round(event.start_ns)
            launched = launches.get(stats.get("correlation_id"), start)  # at the latest
            operation, run = stats.get("hlo_op") or event.name, str(stats.get("program_id", ""))
            lane = f"{name} {line.name} {number}"
            found = DeviceEvent(lane, start, start + round(event.duration_ns), operation, run, launched)
            yield found, "hlo_op" not in stats and _COPY.match(event.name) is not None


def _tpu_events(plane: Any, name: str, began: int, launches: dict[Any, int]) -> Iterator[tuple[DeviceEvent, bool]]:
    """Yield a TPU core's operations, each with the execution of a program that it lies in."""
    lines = {line.name: line for line in plane.lines}
    if "XLA Ops" not in lines:
        return
    modules = [(e.start_ns, e.end_ns, e.name) for e in (lines["XLA Modules"].events if "XLA Modules" in lines else ())]
    modules.sort()
    events = sorted(((e.start_ns, e.end_ns, e.name) for e in lines["XLA Ops"].events), key=lambda e: (e[0], -e[1]))
    at = 0
    for start, end, text in events:
        while at < len(modules) and modules[at][1] <= start:
            at += 1
        inside = at < len(modules) and modules[at][0] <= start
        match = _INSTRUCTION.match(text)
        operation = match[1] if match is not None else text
        run = f"{at} {modules[at][2]}" if inside else ""
        yield DeviceEvent(f"{name} XLA Ops", began + round(start), began + round(end), operation, run), False
