"""Several processes, and processes that fare badly: killed, out of room, out of permission."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from .processes import result, start


@pytest.mark.parametrize("moments", [15, pytest.param(200, marks=pytest.mark.slow)])
def test_a_writer_killed_at_any_moment_leaves_whole_entries_and_no_lock(tmp_path, moments):
    seen = result(start("killed", tmp_path, moments))
    assert seen["found"] > 0
    if moments > 100:
        assert seen["unfinished"] > 0, "no moment was in the middle of a write"
    assert (seen["wrong"], seen["blocked"], seen["left"], seen["faults"]) == (0, 0, 0, {})


def hammered(tmp_path: Path, count: int, rounds: int, max_bytes: int) -> tuple[list[dict], Counter[str]]:
    """Return what 8 processes saw that got or made the same entries at the same time, and how often each was made."""
    made = tmp_path / "made"
    processes = [start("hammer", tmp_path / "cache", count, rounds, max_bytes, made) for _ in range(8)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [result(process) for process in processes], Counter(made.read_text().split())


@pytest.mark.parametrize(("count", "rounds"), [pytest.param(1, 20, id="one-key"), pytest.param(40, 2, id="many-keys")])
def test_eight_processes_make_each_entry_once(tmp_path, count, rounds):
    seen, made = hammered(tmp_path, count, rounds, 1 << 30)
    for each in seen:
        assert (each["wrong"], each["missed"], each["faults"]) == (0, 0, {})
    assert made == {str(i): 1 for i in range(count)}
    assert not [path for path in (tmp_path / "cache" / "locks").rglob("*") if path.is_file()]


def test_eight_processes_may_evict_what_the_others_read(tmp_path):
    seen, made = hammered(tmp_path, 30, 3, 60_000)
    for each in seen:
        assert (each["wrong"], each["missed"], each["faults"]) == (0, 0, {})
    assert sum(made.values()) > 30
    # Each of the others may have added an entry since the last that looked.
    assert min(each["bytes"] for each in seen) <= 60_000 + 8 * 7000


def test_a_disk_that_is_full_is_a_counted_fault(tmp_path):
    unshare = shutil.which("unshare")
    if (
        unshare is None
        or subprocess.run([unshare, "-rm", "mount", "-t", "tmpfs", "x", tmp_path], check=False).returncode
    ):
        pytest.skip("a small disk needs the right to mount one in a namespace")
    mounted = (unshare, "-rm", "sh", "-c", f'mount -t tmpfs -o size=1m,mode=700 x {tmp_path} && exec "$@"', "sh")
    seen = result(start("full", tmp_path, "disk", before=mounted))
    assert seen["written"] > 3
    assert seen["faults"].pop("disk_full") == 1
    # A directory entry for the lock's file may not fit either.
    assert seen.pop("held") != bool(seen["faults"].pop("lock_failed", 0))
    assert (seen["faults"], seen["wrong"], seen["temporary"], seen["again"]) == ({}, 0, 0, True)


def test_a_file_that_may_not_grow_is_a_counted_fault(tmp_path):
    seen = result(start("full", tmp_path, "file"))
    assert seen["written"] > 3
    assert (seen["faults"], seen["wrong"], seen["temporary"]) == ({"disk_full": 1}, 0, 0)
    assert seen["held"]
    assert seen["again"]


def test_a_permission_to_write_that_is_lost_is_a_counted_fault(tmp_path):
    seen = result(start("permission", tmp_path, 0o500))
    assert seen["put"]
    assert seen["right"]
    assert not seen["held"]
    assert not seen["again"]
    assert seen["before"] == {"lock_failed": 1, "unwritable": 1}
    assert seen["faults"] == {"lock_failed": 1, "rejected": 1, "unwritable": 4}
    assert seen["listed"] == 1
    assert seen["late"] == {"read_only": 1}


def test_a_permission_to_read_that_is_lost_is_a_counted_fault(tmp_path):
    seen = result(start("permission", tmp_path, 0o000))
    assert seen["put"]
    assert not seen["right"]
    assert not seen["held"]
    assert not seen["again"]
    assert seen["before"] == {"lock_failed": 1, "unreadable": 1, "unwritable": 1}
    assert seen["faults"].keys() == {"lock_failed", "rejected", "unreadable", "unwritable"}
    assert seen["listed"] == 0
