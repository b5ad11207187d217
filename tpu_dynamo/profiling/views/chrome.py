"""The profile as a trace for Perfetto and chrome://tracing."""

from __future__ import annotations

from typing import Any

from ..model import Profile

# Rows of the trace, from the top.
LANES = {"host": "host, by part", "torch": "PyTorch", "calls": "calls of graphs", "device": "device operations"}


def as_trace(profile: Profile) -> dict[str, Any]:
    """Return the trace as data for JSON. Times are microseconds.

    Source: the Trace Event Format, of which these are complete events (`X`) and metadata (`M`).
    """
    numbers = {lane: number for number, lane in enumerate(LANES, 1)}
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": f"tpu_dynamo on {profile.platform}"}},
        {"ph": "M", "pid": 1, "tid": 0, "name": "thread_name", "args": {"name": "steps"}},
    ]
    for lane, number in numbers.items():
        events.append({"ph": "M", "pid": 1, "tid": number, "name": "thread_name", "args": {"name": LANES[lane]}})
        events.append({"ph": "M", "pid": 1, "tid": number, "name": "thread_sort_index", "args": {"sort_index": number}})
    for step in profile.steps:
        times = {"ts": step.start * 1e6, "dur": step.seconds * 1e6}
        parts = {name: round(seconds * 1e3, 3) for name, seconds in step.parts.items()}
        name = f"step {step.number}"
        events.append({"ph": "X", "pid": 1, "tid": 0, "name": name, "cat": "step", **times, "args": parts})
    for event in profile.events:
        times = {"ts": round(event.start * 1e6, 3), "dur": round(event.seconds * 1e6, 3)}
        tid = numbers[event.lane]
        events.append({"ph": "X", "pid": 1, "tid": tid, "name": event.name, "cat": event.kind, **times})
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": dict(profile.versions)}
