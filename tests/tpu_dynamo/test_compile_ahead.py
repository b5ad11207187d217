"""options={"compile_ahead": N}: threads compile the buckets that may come, while others are served."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
import torch

import tpu_dynamo
from tpu_dynamo.graph import ahead, bucket_program, bucketed

AHEAD = {"buckets": {"x[0]": [4, 8, 16]}, "compile_ahead": 2}


def wait_for(what: str, count: int) -> None:
    deadline = time.monotonic() + 120
    while tpu_dynamo.stats().buckets.get(what, 0) < count:
        assert time.monotonic() < deadline, tpu_dynamo.stats().buckets
        time.sleep(0.05)


def test_the_other_buckets_are_ready_when_they_are_asked_for():
    def function(x, w):
        return (x @ w).cumsum(0).tanh()

    weight = torch.randn(5, 5, requires_grad=True)
    compiled = torch.compile(function, backend="tpu", dynamic=True, options=AHEAD)
    compiled(torch.randn(3, 5), weight).sum().backward()
    wait_for("compiled ahead", 4)  # forward and backward, for two buckets
    with tpu_dynamo.forbid_compile():
        for rows in (7, 13, 4):
            x = torch.randn(rows, 5)
            torch.testing.assert_close(compiled(x, weight), function(x, weight))
            (ours,), (theirs,) = (torch.autograd.grad(f(x, weight).sum(), weight) for f in (compiled, function))
            torch.testing.assert_close(ours, theirs)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tpu_dynamo")]


@pytest.fixture
def queued(monkeypatch) -> list[ahead.Task]:
    """The tasks that are submitted, which nobody does."""
    tasks: list[ahead.Task] = []
    monkeypatch.setattr(ahead.AheadQueue, "submit", lambda self, task, threads: tasks.append(task))
    return tasks


def test_a_larger_bucket_serves_until_the_own_one_is_ready(queued):
    compiled = torch.compile(lambda x: x.softmax(0), backend="tpu", dynamic=True, options=AHEAD)
    for rows in (13, 7):
        x = torch.randn(rows, 5)
        torch.testing.assert_close(compiled(x), x.softmax(0))
    assert tpu_dynamo.stats().lowerings == 1
    for task in queued:
        assert task.claim()
        task.work()
    assert tpu_dynamo.stats().lowerings == 3
    shapes = []
    original = bucket_program.Place.put
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bucket_program.Place, "put", lambda self, t: shapes.append(self.shape) or original(self, t))
        torch.testing.assert_close(compiled(x), x.softmax(0))
    assert shapes == [(8, 5)]


def test_a_call_that_needs_a_bucket_before_its_turn_compiles_it(queued):
    compiled = torch.compile(lambda x: x.softmax(0), backend="tpu", dynamic=True, options=AHEAD)
    for rows in (3, 7, 16):
        x = torch.randn(rows, 5)
        torch.testing.assert_close(compiled(x), x.softmax(0))
    assert tpu_dynamo.stats().lowerings == 3
    assert not any(task.claim() for task in queued)


def test_a_fault_of_a_thread_is_counted_and_the_call_meets_it_again(queued, monkeypatch):
    compiled = torch.compile(lambda x: x.softmax(0), backend="tpu", dynamic=True, options=AHEAD)
    compiled(torch.randn(3, 5))
    original = bucketed.Padding._make

    def failing(self, bucket, pads):
        raise ValueError("no memory")

    monkeypatch.setattr(bucketed.Padding, "_make", failing)
    for task in queued:
        task.claim()
        task.work()
        task.done.set()
    assert tpu_dynamo.stats().buckets["not compiled ahead: ValueError: no memory"] == 2
    with pytest.raises(ValueError, match="no memory"):
        compiled(torch.randn(7, 5))
    monkeypatch.setattr(bucketed.Padding, "_make", original)
    x = torch.randn(7, 5)
    torch.testing.assert_close(compiled(x), x.softmax(0))


def test_what_is_compiled_ahead_follows_the_marked_range(queued):
    compiled = torch.compile(lambda x: x.softmax(0), backend="tpu", options={"buckets": "pow2", "compile_ahead": 1})
    x = torch.randn(10, 3)
    torch._dynamo.mark_dynamic(x, 0, min=5, max=100)
    compiled(x)
    assert len(queued) == 4  # 8, 32, 64 and 100
    compiled = torch.compile(
        lambda x: x.sin().softmax(0), backend="tpu", dynamic=True, options={"buckets": "pow2", "compile_ahead": 1}
    )
    compiled(torch.randn(5, 3))
    assert len(queued) == 4 + 3  # beside 8 x 4, 16 x 4, 8 x 8 and 16 x 8
    assert tpu_dynamo.stats().lowerings == 2


SCRIPT = """\
import os, sys, torch, tpu_dynamo
options = {"buckets": {"multiple": 4}, "compile_ahead": 2, "cache": False}
compiled = torch.compile(lambda x: torch.linalg.svd(x.t() @ x).S + x.sum(0), backend="tpu", options=options)
x = torch.randn(10, 6)
torch._dynamo.mark_dynamic(x, 0, min=5, max=200)
compiled(x)
for _ in range(3):
    if not (child := os.fork()):
        tpu_dynamo.stats()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
print("ended", tpu_dynamo.stats().buckets.get("compiled ahead", 0))
"""


@pytest.mark.slow
def test_a_process_forks_and_ends_while_its_threads_compile():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    word, count = done.stdout.split()
    assert word == "ended"
    assert int(count) < 40
    assert "Traceback" not in done.stderr
