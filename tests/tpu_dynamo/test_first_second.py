"""The time to a first result by stage: each without the stages that it called, and nothing counted twice."""

from __future__ import annotations

import threading
import time

import pytest
import torch

import tpu_dynamo
from tpu_dynamo_runtime import StageClock, stage_clock


@pytest.fixture
def ticks(monkeypatch):
    """A clock that the test turns."""
    now = [0.0]
    monkeypatch.setattr(stage_clock.time, "perf_counter", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_a_stage_is_without_those_within_it(ticks):
    clock = StageClock()
    with clock.timed("outer"):
        ticks(1)
        with clock.timed("inner"):
            ticks(2)
            with clock.timed("inner"):
                ticks(4)
            clock.move("moved", 0.5)
        ticks(8)
        with pytest.raises(ZeroDivisionError), clock.timed("failed"):
            ticks(16)
            _ = 1 / 0
    assert clock.seconds() == {"outer": 9, "inner": 5.5, "moved": 0.5, "failed": 16}
    clock.reset()
    assert clock.seconds() == {}


def test_threads_count_side_by_side(ticks):
    clock = StageClock()

    def other():
        with clock.timed("other"):
            ticks(2)

    with clock.timed("first"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert clock.seconds() == {"first": 2, "other": 2}


def test_a_first_call_is_split_and_a_second_adds_nothing():
    compiled = torch.compile(lambda x: torch.softmax(x * 3.5, -1).cumsum(0), backend="tpu")
    tpu_dynamo.reset()
    tpu_dynamo.reset_stats()
    started = time.perf_counter()
    compiled(torch.ones(5, 3))
    whole = time.perf_counter() - started
    first = tpu_dynamo.stats().seconds
    assert {"capture", "autograd", "reading", "lowering", "kernels", "xla", "first execution"} <= first.keys()
    assert all(seconds > 0 for seconds in first.values())
    assert sum(first.values()) <= whole * 1.05
    compiled(torch.ones(5, 3))
    assert tpu_dynamo.stats().seconds == first


def test_what_another_process_compiled_is_read_and_loaded():
    def function(x):
        return torch.sin(x) * 0.625 + 11

    torch.compile(function, backend="tpu")(torch.ones(7))
    tpu_dynamo.reset()
    torch._dynamo.reset()
    tpu_dynamo.reset_stats()
    torch.compile(function, backend="tpu")(torch.ones(7))
    again = tpu_dynamo.stats().seconds
    assert {"reading", "loading"} <= again.keys()
    assert not {"lowering", "kernels", "xla"} & again.keys()
