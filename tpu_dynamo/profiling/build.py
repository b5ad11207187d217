"""From a recording to a profile."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tpu_dynamo_runtime.device_trace import DeviceTrace, read_device_trace

from ..version import versions
from .clocks import ranges_in_our_time, trace_in_our_time
from .device_time import DeviceTime, device_time
from .host_time import Moments, host_time, outermost
from .lines import line_times
from .model import PARTS, Event, GraphTime, OperationTime, Parts, Profile, Step
from .programs import RanProgram, ran_programs
from .recording import Recording
from .steps import step_starts
from .summary import format_place
from .sweep import longest

# Bars of a timeline beyond which the shortest are left out.
_MOST_EVENTS = 200_000
# Ranges of PyTorch's that are shorter are not shown.
_SHORT = 20_000

Split = Literal["profiler", "cost", "none"]


def build_profile(recording: Recording, command: Sequence[str] = ()) -> Profile:
    """Make a profile of a recording. Nothing is run or compiled."""
    programs, trace, device = _read(recording)
    if recording.torch_ranges is not None:
        recording.torch_ranges = ranges_in_our_time(recording.torch_ranges, recording.executions)
    # A device other than the CPU client's that PJRT records nothing of is waited for, call by call.
    moments = host_time(recording, device, trace.synchronous)
    analysis = _Analysis(recording, programs, trace, device, moments)
    parts = dict.fromkeys(PARTS, 0.0)
    for moment in moments:
        parts[moment.about.part] += moment.length / 1e9
    events = sorted(analysis.events(), key=lambda event: -event.seconds)
    return Profile(
        platform=recording.platform,
        synchronous=trace.synchronous,
        seconds=(recording.end - recording.begin) / 1e9,
        parts=parts,
        device_seconds=parts["execution"] if trace.synchronous else device.total / 1e9,
        steps=tuple(analysis.steps()),
        graphs=tuple(analysis.graphs()),
        lines=tuple(line_times(recording, programs, device, moments)),
        operations=tuple(analysis.operations()),
        events=tuple(sorted(events[:_MOST_EVENTS], key=lambda event: event.start)),
        transfers=analysis.transfers(),
        notes=tuple(analysis.notes()),
        versions=versions(),
        command=tuple(command),
    )


def device_of(recording: Recording) -> DeviceTime:
    """Return the device's time in a recording, whose executions are in the order of their starts from then on."""
    return _read(recording)[2]


def _read(recording: Recording) -> tuple[list[RanProgram], DeviceTrace, DeviceTime]:
    """Return a recording's programs, its trace and the device's time, all by Python's clock."""
    recording.executions.sort(key=lambda each: each.start)
    programs = ran_programs(recording.programs)
    trace = read_device_trace(recording.xspace) if recording.xspace else DeviceTrace()
    trace = trace_in_our_time(trace, recording.executions)
    return programs, trace, device_time(trace, recording.executions, programs)


@dataclass
class _Analysis:
    """The parts of a profile, each made of all that is known of a recording."""

    recording: Recording
    programs: Sequence[RanProgram]
    trace: DeviceTrace
    device: DeviceTime
    moments: Moments

    def __post_init__(self) -> None:
        measured = self.device.of_executions()
        self._by_execution = measured.copy()
        for moment in self.moments:
            number = moment.about.execution
            if moment.about.part == "execution" and number is not None and number not in measured:
                self._by_execution[number] += moment.length

    def graph_of(self, execution: int | None) -> str | None:
        """Return the name of an execution's graph."""
        return None if execution is None else self.programs[self.recording.executions[execution].program].graph

    def split_of(self, program: int) -> Split:
        """Return by what a program's time is split among its operations."""
        if any(number == program for number, _ in self.device.calls):
            return "profiler"
        return "cost" if self.programs[program].has_lines else "none"

    def steps(self) -> Iterator[Step]:
        """Yield the steps."""
        starts = step_starts(self.recording, self.programs, self.moments)
        ends = [*starts[1:], self.recording.end]
        parts: list[Parts] = [dict.fromkeys(PARTS, 0.0) for _ in starts]
        for moment in self.moments:
            at = max(0, bisect_right(starts, moment.start) - 1)
            while at < len(starts) and starts[at] < moment.end:
                length = min(moment.end, ends[at]) - max(moment.start, starts[at])
                parts[at][moment.about.part] += max(0.0, length) / 1e9
                at += 1
        busy: defaultdict[int, float] = defaultdict(float)
        for number, nanoseconds in self._by_execution.items():
            if number is not None:
                busy[bisect_right(starts, self.recording.executions[number].start) - 1] += nanoseconds / 1e9
        for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
            began, seconds = (start - self.recording.begin) / 1e9, (end - start) / 1e9
            yield Step(number, began, seconds, parts[number], busy[number])

    def graphs(self) -> list[GraphTime]:
        """Return the graphs, that with the longest execution first."""
        parts: dict[str, Parts] = defaultdict(lambda: dict.fromkeys(PARTS[:4], 0.0))
        for moment in self.moments:
            name = self.graph_of(moment.about.execution)
            if name is not None and moment.about.part in PARTS[:3]:
                parts[name][moment.about.part] += moment.length / 1e9
        calls: Counter[str] = Counter()
        for number, execution in enumerate(self.recording.executions):
            name = self.programs[execution.program].graph
            calls[name] += 1
            parts[name]["execution"] += self._by_execution[number] / 1e9
        splits: dict[str, Split] = {}
        for number, program in enumerate(self.programs):
            if program.graph not in splits or splits[program.graph] != "profiler":
                splits[program.graph] = self.split_of(number)
        found = [GraphTime(name, calls[name], times, splits[name]) for name, times in parts.items()]
        return sorted(found, key=lambda graph: -sum(graph.parts.values()))

    def operations(self) -> list[OperationTime]:
        """Return the operations that a device ran, the longest first."""
        times: defaultdict[tuple[int | None, str], float] = defaultdict(float)
        for (number, operation), nanoseconds in self.device.times.items():
            program = None if number is None else self.recording.executions[number].program
            times[program, operation] += nanoseconds
        return [self._operation(*key, nanoseconds / 1e9) for key, nanoseconds in longest(times)]

    def _operation(self, program: int | None, operation: str, seconds: float) -> OperationTime:
        calls = self.device.calls[program, operation]
        if program is None:
            return OperationTime("", operation, "", "", "", None, None, calls, seconds)
        ran = self.programs[program]
        origin = ran.origin(operation)
        operator, module = (origin.operator, origin.module) if origin else ("", "")
        file, line = origin.place if origin else (None, None)
        return OperationTime(ran.graph, operation, ran.opcode(operation), operator, module, file, line, calls, seconds)

    def events(self) -> Iterator[Event]:
        """Yield the bars of the timeline."""

        def event(lane: str, name: str, kind: str, start: float, end: float) -> Event:
            return Event(lane, name, kind, (start - self.recording.begin) / 1e9, (end - start) / 1e9)

        for moment in self.moments:
            about = moment.about
            if about.part != "host":
                name = about.what or self.graph_of(about.execution) or about.part
                yield event("host", name, about.part, moment.start, moment.end)
        for execution in self.recording.executions:
            name = self.programs[execution.program].graph
            yield event("calls", name, "execution", execution.start, execution.end)
        for found, number in zip(self.trace.operations, self.device.owners, strict=True):
            program = None if number is None else self.programs[self.recording.executions[number].program]
            origin = program.origin(found.operation) if program is not None else None
            kind = origin.operator if origin is not None else "operation"
            yield event("device", found.operation, kind, found.start, found.end)
        for copy in self.trace.copies:
            yield event("device", copy.operation, "transfer", copy.start, copy.end)
        for each in outermost(self.recording.torch_ranges or ()):
            if each.end - each.start >= _SHORT:
                yield event("torch", each.name, "torch", each.start, each.end)

    def transfers(self) -> dict[str, tuple[int, float]]:
        """Return the bytes and the seconds of the copies, by direction."""
        found: dict[str, tuple[int, float]] = {}
        for span in self.recording.spans:
            if span.kind == "transfer":
                nbytes, seconds = found.get(span.what, (0, 0.0))
                found[span.what] = nbytes + span.nbytes, seconds + (span.end - span.start) / 1e9
        return found

    def notes(self) -> Iterator[str]:
        """Yield what could not be measured, and why."""
        if self.recording.torch_ranges is None:
            yield (
                "guards and dispatch outside of our calls were not measured: PyTorch's profiler, which records them, "
                "was in use"
            )
        stale = [each.graph for each in self.programs if not each.has_lines_of_its_graph]
        if stale:
            yield (
                f"{', '.join(dict.fromkeys(stale))}: found in the cache without a graph to compare, so its lines are "
                "those of the source that it was compiled from"
            )
        ambiguous = {place for each in self.programs for place in each.ambiguous}
        for file, line in sorted(ambiguous):
            yield (
                f"{format_place(file, line)} was one line with others when it was compiled; time of theirs counts to it"
            )
        if not self.recording.xspace:
            yield (
                "PJRT's profiler was in use by another session: executions are split by XLA's estimated cost, and each "
                "was waited for"
            )
        unsplit = [each for i, each in enumerate(self.programs) if self.split_of(i) == "cost"]
        if self.recording.xspace and unsplit:
            names = ", ".join(dict.fromkeys(each.graph for each in unsplit))
            yield f"PJRT recorded no operations of {names}: split by XLA's estimated cost"
