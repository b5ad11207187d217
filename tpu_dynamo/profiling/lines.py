"""Time by the user's source line: the device's by the lines of its operations, the host's by where it was asked for."""

from __future__ import annotations

import linecache
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence

from .device_time import DeviceTime
from .host_time import Moments
from .model import LineTime
from .programs import RanProgram
from .recording import Recording
from .sampling import Place
from .sweep import longest

# A sample tells of this many nanoseconds around it: it may wait for the interpreter as long as that.
_NEAR = 10_000_000
_NAMED = 3


class Samples:
    """The samples of a run, by time."""

    def __init__(self, samples: Sequence[tuple[int, Place | None]]):
        self._times = [time for time, _ in samples]
        self._places = [place for _, place in samples]

    def places(self, start: float, end: float) -> list[Place | None]:
        """Return the lines of the samples in a stretch of time; of a short one that of the sample next to it."""
        low, high = bisect_left(self._times, start), bisect_right(self._times, end)
        if low < high:
            return self._places[low:high]
        near = [i for i in (high, low - 1) if 0 <= i < len(self._times)]
        near = [i for i in near if abs(self._times[i] - start) < _NEAR]
        return [self._places[near[0]] if near else None]


def line_times(
    recording: Recording, programs: Sequence[RanProgram], device: DeviceTime, moments: Moments
) -> list[LineTime]:
    """Return the time of each line in seconds, the longest first; None's is that of no line."""
    parts: dict[Place | None, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    names: dict[Place | None, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for place, name, nanoseconds in _device_lines(recording, programs, device, moments):
        parts[place]["execution"] += nanoseconds
        names[place][name] += nanoseconds
    samples = Samples(recording.samples)
    for moment in moments:
        about = moment.about
        if about.part == "execution":
            continue
        places = [about.place] if about.place is not None else samples.places(moment.start, moment.end)
        for place in places:
            parts[place][about.part] += moment.length / len(places)
            if about.what:
                names[place][about.what] += moment.length / len(places)
    found = [
        LineTime(
            place[0] if place else None,
            place[1] if place else None,
            linecache.getline(*place).strip() if place else "",
            {part: time / 1e9 for part, time in times.items()},
            tuple(name for name, _ in longest(names[place], _NAMED) if name),
        )
        for place, times in parts.items()
    ]
    return sorted(found, key=lambda line: -line.seconds)


def _device_lines(
    recording: Recording, programs: Sequence[RanProgram], device: DeviceTime, moments: Moments
) -> Iterator[tuple[Place | None, str, float]]:
    """Yield lines, names of operators and nanoseconds of the device: as measured, and where it was not, by cost."""
    executions = recording.executions
    measured = set()
    for (number, operation), nanoseconds in device.times.items():
        measured.add(number)
        if number is None:
            yield None, operation, nanoseconds
            continue
        program = programs[executions[number].program]
        origin = program.origin(operation)
        if origin is not None:
            yield origin.place, origin.operator, nanoseconds
        else:
            yield None if program.has_lines else executions[number].place, program.opcode(operation), nanoseconds
    for moment in moments:
        number = moment.about.execution
        if moment.about.part != "execution" or number is None or number in measured:
            continue
        program = programs[executions[number].program]
        shares = program.estimated_shares if program.has_lines else {executions[number].place: 1.0}
        for place, part in (shares or {None: 1.0}).items():
            yield place, "", moment.length * part
