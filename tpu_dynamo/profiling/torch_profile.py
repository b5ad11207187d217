"""Device time in profiles of torch.profiler, whose sessions know no device but those that C++ registers."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent

from ..device import NAME as DEVICE
from .build import device_of
from .recording import OURS, Recording


def add_to(theirs: Any, recording: Recording) -> None:
    """Give the ranges around our calls, in a profile of torch.profiler, the operations that the device ran for them.

    theirs: a `torch.profiler.profile` that has ended, and ran during all of the recording. Raises ValueError for
    another, whose ranges are not those of the recording's calls.
    """
    events = theirs.events()
    ranges = sorted((each for each in events if each.name.startswith(OURS)), key=lambda each: each.time_range.start)
    if len(ranges) != len(recording.executions):
        raise ValueError(
            f"the profile has {len(ranges)} ranges of our calls, and there were {len(recording.executions)}\n"
            "  try: with torch.profiler.profile() as theirs, tpu_dynamo.profile() as run: ..., then run.add_to(theirs)"
        )
    operations: defaultdict[int, list[tuple[str, float]]] = defaultdict(list)
    for (number, name), nanoseconds in device_of(recording).times.items():
        if number is not None:
            operations[number].append((name, nanoseconds / 1e3))
    for event in events:
        event.use_device = DEVICE
    for number, event in enumerate(ranges):
        start = event.time_range.start
        for name, microseconds in operations[number]:
            event.append_kernel(name, 0, microseconds)  # counts for the range and those around it
            found = FunctionEvent(
                -1,
                name,
                0,
                start,
                start + microseconds,
                stack=[],
                device_type=DeviceType.PrivateUse1,
                use_device=DEVICE,
            )
            events.append(found)  # counts in the sum, and has a row
            start += microseconds
