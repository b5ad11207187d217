"""The device's time by execution: of threads that the host waits for, of a GPU's streams, of a TPU's runs in order."""

from __future__ import annotations

import pytest

from tpu_dynamo.profiling.build import build_profile
from tpu_dynamo.profiling.clocks import trace_in_our_time
from tpu_dynamo.profiling.device_time import device_time
from tpu_dynamo.profiling.programs import ran_programs
from tpu_dynamo.profiling.recording import Execution, RecordedProgram, Recording
from tpu_dynamo_runtime.device_trace import DeviceEvent, DeviceTrace

HLO = """HloModule main

ENTRY %main (x: f32[8]) -> f32[8] {{
  %x = f32[8]{{0}} parameter(0)
  ROOT %{name} = f32[8]{{0}} add(%x, %x), metadata={{op_name="/m.py:{line}/self.a/aten.add.Tensor"}}
}}
"""


def recorded():
    programs = [
        RecordedProgram(f"forward graph {i}", HLO.format(name=name, line=i))
        for i, name in enumerate(["add.1", "other.2"])
    ]
    executions = [
        Execution(0, 0, 100, 110, 1, None),
        Execution(1, 1, 120, 130, 1, None),
        Execution(2, 0, 140, 150, 1, None),
    ]
    return Recording(begin=90, end=400, platform="cuda", executions=executions, programs=programs)


def times(*events, synchronous=False, calls=None):
    recording = recorded()
    trace = DeviceTrace(events, synchronous=synchronous, calls=calls or {})
    return device_time(
        trace_in_our_time(trace, recording.executions), recording.executions, ran_programs(recording.programs)
    )


def test_kernels_belong_to_the_call_that_launched_them_and_streams_share_their_time():
    found = times(
        DeviceEvent("stream 1", 200, 220, "add.1", "7", 105),
        DeviceEvent("stream 2", 210, 230, "other_2", "8", 125),  # a kernel's own name
        DeviceEvent("stream 1", 240, 250, "add.1", "7", 145),
        DeviceEvent("stream 1", 250, 255, "cublas", "", 146),
        DeviceEvent("stream 1", 300, 301, "theirs", "", 299),
    )
    assert dict(found.times) == {
        (0, "add.1"): 15,
        (1, "other_2"): 15,
        (2, "add.1"): 10,
        (2, "cublas"): 5,
        (None, "theirs"): 1,
    }
    assert found.total == 46


def test_runs_of_a_tpu_are_in_the_order_of_the_calls_the_first_may_be_older():
    found = times(
        DeviceEvent("core", 80, 90, "add.1", "0 main(1)"),
        DeviceEvent("core", 200, 210, "add.1", "1 main(1)"),
        DeviceEvent("core", 210, 240, "other.2", "2 main(2)"),
        DeviceEvent("core", 215, 225, "other.2", "2 main(2)"),
        DeviceEvent("core", 250, 255, "add.1", "3 main(1)"),
    )
    assert found.owners == [None, 0, 1, 1, 2]
    assert found.total == 10 + 10 + 30 + 5


def test_clocks_are_brought_together_by_the_calls():
    late = 1000
    events = [DeviceEvent("thread", 1102, 1106, "add.1", "r", 1102, pending_until=1109)]
    found = times(*events, synchronous=True, calls={0: 100 + late, 1: 118 + late})
    assert [(each.start, each.end, each.about) for each in found.busy] == [(102, 106, 0), (106, 109, 0)]
    assert found.total == 7


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lines_of_a_device_beside_the_host_add_up_to_both(monkeypatch, platform):
    recording = recorded()
    recording.xspace = b"x"
    trace = DeviceTrace((DeviceEvent("core", 200, 300, "add.1", "1", 105),), synchronous=False)
    monkeypatch.setattr("tpu_dynamo.profiling.build.read_device_trace", lambda xspace: trace)
    profile = build_profile(recording)
    assert not profile.synchronous
    assert profile.device_seconds == pytest.approx(100e-9)
    assert sum(line.seconds for line in profile.lines) == pytest.approx(profile.whole) == pytest.approx(410e-9)
    assert {(line.file, line.line) for line in profile.lines} == {("/m.py", 0), (None, None)}
    assert [step.device for step in profile.steps] == [pytest.approx(100e-9), 0]
