"""Workers: what they are told and answer, and what is reported of one that ends, hangs up, hangs, or is killed."""

from __future__ import annotations

import os
import select
import subprocess
import sys

import pytest

from tpu_dynamo_runtime import worker_process
from tpu_dynamo_runtime.worker_process import WorkerEnded, WorkerProcess

BEGIN = """
import os, signal, subprocess, sys, time
from tpu_dynamo_runtime.worker_process import connect_to_parent, receive, send
parent = connect_to_parent(int(sys.argv[1]))
"""


def worker(code: str) -> WorkerProcess:
    return WorkerProcess("the worker", ["-c", BEGIN + code], os.environ)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_messages_cross_as_objects_and_as_bytes():
    with worker("send(parent, receive(parent) | {'b': 2}); parent.send_bytes(parent.recv_bytes() * 2)") as process:
        process.send({"a": 1})
        assert process.receive() == {"a": 1, "b": 2}
        process.send_bytes(b"\0\xff")
        assert process.receive_bytes() == b"\0\xff\0\xff"


@pytest.mark.parametrize(
    ("code", "how"),
    [
        pytest.param("sys.exit(3)", "ended with exit status 3", id="exit"),
        # Python's development mode would print where it was.
        pytest.param(
            "import faulthandler; faulthandler.disable(); os.abort()", "ended with exit status -6 (SIGABRT)", id="abort"
        ),
        pytest.param(
            "os.kill(os.getpid(), signal.SIGKILL)",
            "ended with exit status -9 (SIGKILL, which is what the system does when memory runs out)",
            id="out-of-memory",
        ),
        pytest.param(
            "os.kill(os.getpid(), signal.SIGRTMIN + 1)", "ended with exit status -35 (an unnamed signal)", id="unnamed"
        ),
    ],
)
def test_the_exit_report_says_how_it_ended_and_the_last_lines_since_it_was_asked(code, how):
    talk = "print('of the first'); send(parent, receive(parent)); receive(parent)\n"
    with worker(talk + f"[print('line', i) for i in range(100)]; os.write(2, b'error')\n{code}") as process:
        process.send({})
        process.receive()
        process.send({})
        with pytest.raises(WorkerEnded) as caught:
            process.receive()
        report = str(caught.value)
        assert report.startswith(f"the worker {how}; its last lines:\n")
        assert report.endswith("    line 98\n    line 99\n    error")
        assert "of the first" not in report
        assert "line 80" not in report
        with pytest.raises(WorkerEnded):
            process.send({})
        assert process.has_ended()


def test_a_worker_that_hangs_up_and_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(worker_process, "_SECONDS_TO_END", 0.0)
    with worker("parent.close(); signal.pause()") as process:
        with pytest.raises(WorkerEnded, match="the worker hung up, did not end, and was killed"):
            process.receive()
        assert not is_alive(process.pid)


def test_a_worker_that_does_not_answer_in_time_is_alive_until_it_is_killed_with_its_children():
    code = "child = subprocess.Popen(['sleep', 'infinity']); send(parent, {'child': child.pid}); signal.pause()"
    with worker(code) as process:
        child = os.pidfd_open(process.receive()["child"])
        with pytest.raises(TimeoutError, match=r"the worker did not answer within 0\.01 s"):
            process.receive(0.01)
        assert is_alive(process.pid)
        process.kill()
        assert not is_alive(process.pid), "nobody has waited for it"
    # Readable once the child has ended.
    assert select.select([child], [], [], 60)[0]
    os.close(child)


def test_a_block_that_raises_kills_the_worker_at_once_and_one_that_ends_waits_for_it(tmp_path):
    with pytest.raises(KeyError), worker("send(parent, {}); signal.pause()") as process:
        process.receive()
        raise KeyError
    assert not is_alive(process.pid)
    with worker(
        f"send(parent, {{}})\ntry: receive(parent)\nexcept EOFError: open({str(tmp_path / 'end')!r}, 'w')"
    ) as process:
        process.receive()
    assert (tmp_path / "end").exists()


def test_neither_end_needs_torch_or_jaxlib():
    code = "import sys; import tpu_dynamo_runtime.worker_process; print({'torch', 'jaxlib', 'jax'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
