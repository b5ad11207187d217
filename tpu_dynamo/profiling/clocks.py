"""One clock for all that was recorded: PJRT's trace and PyTorch's ranges have clocks of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tpu_dynamo_runtime.device_trace import DeviceEvent, DeviceTrace

from .recording import OURS, Execution, TorchRange


def trace_in_our_time(trace: DeviceTrace, executions: Sequence[Execution]) -> DeviceTrace:
    """Return a trace whose times are those of Python's clock, by the calls that both saw begin."""
    late = _least([each.start - trace.calls[each.call] for each in executions if each.call in trace.calls])
    if not late:
        return trace

    def moved(event: DeviceEvent) -> DeviceEvent:
        launched = None if event.launched is None else event.launched + late
        pending = None if event.pending_until is None else event.pending_until + late
        return replace(event, start=event.start + late, end=event.end + late, launched=launched, pending_until=pending)

    return replace(
        trace,
        operations=tuple(map(moved, trace.operations)),
        copies=tuple(map(moved, trace.copies)),
        calls={call: start + late for call, start in trace.calls.items()},
    )


def ranges_in_our_time(ranges: Sequence[TorchRange], executions: Sequence[Execution]) -> list[TorchRange]:
    """Return PyTorch's ranges by Python's clock; those around our calls come in the order of the calls."""
    around = sorted(each.start for each in ranges if each.name.startswith(OURS))
    if len(around) != len(executions):
        return list(ranges)
    late = _least([each.start - start for each, start in zip(executions, around, strict=True)])
    return [replace(each, start=each.start + late, end=each.end + late) for each in ranges]


def _least(differences: Sequence[float]) -> int:
    """Return the difference of the clocks: the least one seen, as a thread may be interrupted between two looks."""
    return round(min(differences, default=0))
