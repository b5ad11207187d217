"""Traces of PJRT's profiler: planes of TPUs and GPUs as XLA's schema has them, and the CPU client's own."""

from __future__ import annotations

import pytest
from jax.profiler import ProfileData

from tpu_dynamo_runtime.device_trace import read_device_trace

STATS = ("hlo_op", "hlo_module", "program_id", "correlation_id", "run_id", "_p", "_c", "tpu_dynamo_call")
BEGAN = """planes { name: "Task Environment" stats { metadata_id: 1 uint64_value: 1000000 }
 stat_metadata { key: 1 value { id: 1 name: "profile_start_time" } } }"""


def event(number, start, duration, **stats):
    """Return an event that begins and lasts so many nanoseconds; texts are references, as CUPTI's are."""
    values = " ".join(
        f"stats {{ metadata_id: {STATS.index(name) + 1} "
        + (f"ref_value: {100 + value}" if name == "hlo_op" else f"uint64_value: {value}")
        + " }"
        for name, value in stats.items()
    )
    return f"events {{ metadata_id: {number} offset_ps: {start * 1000} duration_ps: {duration * 1000} {values} }}"


def plane(name, lines, names, texts=()):
    """Return a plane in protobuf's text. lines: events by name; names: of the events by number."""
    shown = "".join(
        f'lines {{ id: {i} name: "{line}" {" ".join(events)} }}' for i, (line, events) in enumerate(lines.items())
    )
    shown += "".join(
        f'event_metadata {{ key: {i} value {{ id: {i} name: "{text}" }} }}' for i, text in enumerate(names, 1)
    )
    known = {**dict(enumerate(STATS, 1)), **dict(enumerate(texts, 100))}
    shown += "".join(f'stat_metadata {{ key: {i} value {{ id: {i} name: "{text}" }} }}' for i, text in known.items())
    return f'planes {{ name: "{name}" {shown} }}'


def read(*planes):
    return read_device_trace(ProfileData.text_proto_to_serialized_xspace("\n".join([*planes, BEGAN])))


def test_operations_of_a_tpu_lie_in_runs_of_its_programs():
    lines = {
        "XLA Modules": [event(1, 0, 100), event(1, 200, 100)],
        "XLA Ops": [event(2, 210, 80), event(3, 220, 30), event(2, 10, 50), event(2, 400, 5)],
        "Steps": [event(1, 0, 300)],
        "Async XLA Ops": [event(3, 0, 300)],
    }
    names = ["main(42)", "%while.1 = (s32[]) while(...)", "%fusion.3 = f32[8] fusion(...)"]
    trace = read(plane("/device:TPU:0", lines, names))
    assert not trace.synchronous
    assert [(e.operation, e.start - 1e6, e.end - 1e6, e.run) for e in trace.operations] == [
        ("while.1", 10, 60, "0 main(42)"),
        ("while.1", 210, 290, "1 main(42)"),
        ("fusion.3", 220, 250, "1 main(42)"),
        ("while.1", 400, 405, ""),
    ]
    assert {e.launched for e in trace.operations} == {None}


def test_kernels_of_a_gpu_know_when_the_host_launched_them():
    streams = {
        "Stream #13(Compute)": [event(1, 50, 20, hlo_op=0, program_id=7, correlation_id=3), event(2, 80, 5)],
        "Stream #14(MemcpyH2D)": [event(3, 60, 30, correlation_id=4)],
        "XLA Ops": [event(1, 50, 20, hlo_op=0, program_id=7)],
    }
    kernels = plane("/device:GPU:0", streams, ["loop_add_fusion", "user_kernel", "MemcpyH2D"], ["add_fusion.1"])
    host = plane("/host:CPU", {"python": [event(1, 12, 3, correlation_id=3)]}, ["cuLaunchKernel"])
    trace = read(kernels, host)
    assert [(e.operation, e.start - 1e6, e.run, e.launched) for e in trace.operations] == [
        ("add_fusion.1", 50, "7", 1e6 + 12),
        ("user_kernel", 80, "", 1e6 + 80),
    ]
    assert [(e.operation, e.end - e.start) for e in trace.copies] == [("MemcpyH2D", 30)]


def test_operations_of_the_cpu_client_are_launched_with_their_run_and_may_end_elsewhere():
    lines = {
        "python": [event(1, 10, 5, hlo_op=0, run_id=1, _p=8), event(2, 20, 10, hlo_op=1, run_id=1, _p=9)],
        "worker": [event(3, 40, 1, _c=8), event(4, 30, 1, _c=9)],
    }
    trace = read(plane("/host:CPU", lines, ["dot.1", "add", "end: dot.1", "end: add"], ["dot.1", "add"]))
    assert trace.synchronous
    assert [(e.operation, e.launched, e.pending_until) for e in trace.operations] == [
        ("dot.1", 1e6 + 10, 1e6 + 40),
        ("add", 1e6 + 10, None),
    ]


def test_what_a_thread_notes_after_the_call_returned_ends_with_the_call():
    lines = {
        "python": [event(4, 5, 20, tpu_dynamo_call=0), event(1, 10, 5, hlo_op=0, run_id=1, _p=8)],
        "worker": [event(2, 22, 90, hlo_op=1, run_id=1, _p=9), event(3, 70, 1, _c=8)],
    }
    trace = read(plane("/host:CPU", lines, ["dot.1", "add", "end: dot.1", "call"], ["dot.1", "add"]))
    assert [(e.operation, e.end - 1e6, e.pending_until) for e in trace.operations] == [
        ("dot.1", 15, 1e6 + 25),
        ("add", 25, None),
    ]


@pytest.mark.parametrize("planes", [[], [plane("/device:TPU:0", {"Steps": []}, [])]], ids=["nothing", "no-operations"])
def test_a_trace_of_nothing_has_no_operations(planes):
    assert read(*planes).operations == ()
