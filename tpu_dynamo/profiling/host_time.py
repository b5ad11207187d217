"""The host's time: guards, dispatch, copies, compiles, waiting for the device, and what the user's own code does."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from .device_time import DeviceTime
from .recording import Execution, Recording, TorchRange
from .sampling import Place
from .sweep import Interval, layered

_LOOKUP = "TorchDynamo Cache Lookup"
_REGION = "Torch-Compiled Region"
_BACKWARD = "CompiledFunctionBackward"


@dataclass(frozen=True)
class HostMoment:
    """A stretch of the host's time. part: one of `PARTS`. execution: for or by which the host does it, by number."""

    part: str
    place: Place | None = None
    execution: int | None = None
    what: str = ""


Moments = list[Interval[HostMoment]]


def host_time(recording: Recording, device: DeviceTime, synchronous: bool) -> Moments:
    """Split the time of a recording, every moment into one stretch; executions are in the order of their starts."""
    waits = _waits(recording, device, synchronous)
    transfers = [_moment(span.start, span.end, span.kind, span.place, what=span.what) for span in recording.spans]
    compiles = [each for each in transfers if each.about.part == "compile"]
    guards, dispatch = _guards_and_dispatch(recording)
    copies = _with_executions((each for each in transfers if each.about.part == "transfer"), dispatch)
    layers = [waits, copies, compiles, guards, dispatch]
    nothing = HostMoment("host")
    return [
        Interval(each.start, each.end, each.about or nothing)
        for each in layered(recording.begin, recording.end, layers)
    ]


def _moment(
    start: int, end: int, part: str, place: Place | None, execution: int | None = None, what: str = ""
) -> Interval[HostMoment]:
    return Interval(start, end, HostMoment(part, place, execution, what))


def _waits(recording: Recording, device: DeviceTime, synchronous: bool) -> Moments:
    """Return when the host waits for the device: while a call of the CPU client runs, else while it copies."""
    executions = recording.executions
    measured = {each.about for each in device.busy}
    unmeasured = [
        _moment(each.start, each.end, "execution", each.place, number)
        for number, each in enumerate(executions)
        if number not in measured
    ]
    busy = [_moment(each.start, each.end, "execution", None, each.about) for each in device.busy]
    if synchronous:
        return busy + unmeasured
    blocked = [each for each in recording.spans if each.kind == "transfer"]
    starts = [each.start for each in busy]
    return [
        Interval(max(each.start, span.start), min(each.end, span.end), each.about)
        for span in blocked
        for each in busy[max(0, bisect_right(starts, span.start) - 1) : bisect_left(starts, span.end)]
        if each.end > span.start
    ]


def _with_executions(copies: Iterable[Interval[HostMoment]], dispatch: Moments) -> Moments:
    """Give copies that are made while an execution is prepared, or its results taken, the number of that."""
    around = sorted((each for each in dispatch if each.about.execution is not None), key=lambda each: each.start)
    starts = [each.start for each in around]
    found: Moments = []
    for copy in copies:
        at = bisect_right(starts, copy.start)
        containing = (each for each in reversed(around[max(0, at - 16) : at]) if each.end >= copy.end)
        number = next((each.about.execution for each in containing), None)
        found.append(Interval(copy.start, copy.end, replace(copy.about, execution=number)))
    return found


def _guards_and_dispatch(recording: Recording) -> tuple[Moments, Moments]:
    executions = recording.executions
    dispatch = [_moment(each.start, each.end, "dispatch", each.place, i) for i, each in enumerate(executions)]
    ranges = recording.torch_ranges or []
    lookups = sorted((each for each in ranges if each.name == _LOOKUP), key=lambda each: each.end)
    guards: Moments = []
    by_end = [each.end for each in lookups]
    led: set[int] = set()
    for region, own, has_inner in _compiled(ranges, executions):
        number = own[0] if own else None
        place = executions[own[0]].place if own else None
        # Behind the call of a graph that breaks comes the user's own code, until the next part.
        end = executions[own[-1]].end if own and has_inner else region.end
        if own or not has_inner:
            dispatch.append(_moment(region.start, end, "dispatch", place, number))
        at = bisect_right(by_end, region.start) - 1
        if region.name.startswith(_REGION) and at >= 0 and lookups[at].thread == region.thread and at not in led:
            led.add(at)
            guards.append(_moment(lookups[at].start, lookups[at].end, "guards", place, number))
    guards += [_moment(each.start, each.end, "guards", None) for i, each in enumerate(lookups) if i not in led]
    asked = [*((each.start, i) for i, each in enumerate(executions)), *((each.start, None) for each in recording.spans)]
    dispatch += _operators(outermost(ranges), sorted(asked, key=lambda found: found[0]), executions)
    return guards, dispatch


def _compiled(
    ranges: Iterable[TorchRange], executions: Sequence[Execution]
) -> Iterator[tuple[TorchRange, list[int], bool]]:
    """Yield each compiled region, the numbers of the executions that it makes itself, and if it contains others."""
    starts = [each.start for each in executions]
    regions = sorted(
        (each for each in ranges if each.name.startswith((_REGION, _BACKWARD))), key=lambda r: (r.start, -r.end)
    )
    for i, region in enumerate(regions):
        inner: list[TorchRange] = []
        for other in regions[i + 1 :]:
            if other.start >= region.end:
                break
            if other.thread == region.thread and (not inner or other.start >= inner[-1].end):
                inner.append(other)
        numbers = range(bisect_left(starts, region.start), bisect_left(starts, region.end))
        own = [n for n in numbers if not any(each.start <= starts[n] < each.end for each in inner)]
        yield region, own, bool(inner)


def outermost(ranges: Iterable[TorchRange]) -> list[TorchRange]:
    """Return the ranges that lie in no other one of their thread, in the order of time."""
    found: list[TorchRange] = []
    ends: dict[int, int] = {}
    for each in sorted(ranges, key=lambda each: (each.start, -each.end)):
        if each.start >= ends.get(each.thread, 0):
            ends[each.thread] = each.end
            found.append(each)
    return found


def _operators(
    ranges: Sequence[TorchRange], asked: Sequence[tuple[int, int | None]], executions: Sequence[Execution]
) -> Iterator[Interval[HostMoment]]:
    """Yield PyTorch's operators that run programs or copy: what they do besides is dispatch."""
    times = [start for start, _ in asked]
    for each in ranges:
        at = bisect_left(times, each.start)
        if each.name.startswith("aten::") and at < len(times) and times[at] < each.end:
            number = asked[at][1]
            place = executions[number].place if number is not None else None
            yield _moment(each.start, each.end, "dispatch", place, number, each.name)
