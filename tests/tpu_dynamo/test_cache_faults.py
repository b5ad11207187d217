"""Whatever happens to the cache under a program that compiles: its results are right, and what happened is counted."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tpu_dynamo
from tests.tpu_dynamo.test_cache import made, run, scaled
from tpu_dynamo.session import session

pytestmark = pytest.mark.sampled(2)


def files(kind: str) -> Iterator[Path]:
    folder = Path(os.environ["TPU_DYNAMO_CACHE_DIR"]) / "entries" / kind
    return (file for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("kind", ["program", "executable"])
@pytest.mark.parametrize("place", [0, 9, 13, 30, 200, 0.3, 0.5, 0.9], ids=str)
def test_a_flipped_byte_anywhere_costs_a_compilation(kind, place):
    x = torch.randn(4)
    expected = run(scaled, x)
    for file in files(kind):
        data = bytearray(file.read_bytes())
        data[int(place * len(data)) if isinstance(place, float) else place] ^= 64
        file.write_bytes(data)
    torch.testing.assert_close(run(scaled, x), expected)
    assert made() == ((1, 0) if kind == "program" else (0, 1))
    assert sum(tpu_dynamo.stats().cache_faults.values()) == 1
    torch.testing.assert_close(run(scaled, x), expected)
    assert made() == (0, 0)


def test_a_cache_of_another_release_is_counted_and_made_anew():
    x = torch.randn(4)
    expected = run(scaled, x)
    for kind in ("program", "executable"):
        for file in files(kind):
            data = bytearray(file.read_bytes())
            data[8:12] = (7000).to_bytes(4, "little")  # the schema's version
            file.write_bytes(data)
    torch.testing.assert_close(run(scaled, x), expected)
    assert made() == (1, 1)
    assert tpu_dynamo.stats().cache_faults == {"foreign_version": 2}
    torch.testing.assert_close(run(scaled, x), expected)
    assert made() == (0, 0)


@pytest.mark.parametrize("kind", ["program", "executable"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_file_cut_anywhere_costs_a_compilation(kind, share):
    x = torch.randn(4)
    expected = run(scaled, x)
    for file in files(kind):
        file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    torch.testing.assert_close(run(scaled, x), expected)
    assert made() == ((1, 0) if kind == "program" else (0, 1))
    assert tpu_dynamo.stats().cache_faults == {"damaged": 1}


def test_a_directory_that_is_deleted_under_a_running_process_is_made_anew():
    x = torch.randn(4)
    compiled = torch.compile(scaled, backend="tpu")
    expected = compiled(x)
    shutil.rmtree(os.environ["TPU_DYNAMO_CACHE_DIR"])
    torch._dynamo.reset()
    session().release()
    torch.testing.assert_close(compiled(x), expected)
    assert set(tpu_dynamo.stats().cache_faults) == {"directory_gone"}
    torch.testing.assert_close(run(scaled, x), expected)
    assert made() == (0, 0)


def test_an_executable_can_be_loaded_again_when_its_directory_is_gone():
    compiled = [torch.compile(f, backend="tpu", options={"max_executables": 1}) for f in (scaled, torch.sigmoid)]
    x = torch.randn(4)
    first = [function(x) for function in compiled]
    shutil.rmtree(os.environ["TPU_DYNAMO_CACHE_DIR"])
    for _ in range(2):
        torch.testing.assert_close([function(x) for function in compiled], first)


SCRIPT = """
import json, sys, torch, tpu_dynamo
model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
for parameter in model.parameters():
    parameter.data.fill_(0.5)
if len(sys.argv) > 1:
    sys.stdin.readline()
out = torch.compile(model, backend="tpu")(torch.ones(3, 6))
out.sum().backward()
stats = tpu_dynamo.stats()
print(json.dumps([float(out.sum()), float(model[0].weight.grad.sum()), stats.lowerings, stats.xla_compiles,
                  stats.cache_faults]))
"""
VALUES = [87.0, 144.0]


def start(folder: Path, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    caches = {"TPU_DYNAMO_CACHE_DIR": str(folder / "ours"), "TORCHINDUCTOR_CACHE_DIR": str(folder / "torchs")}
    pipe, environment = subprocess.PIPE, {**os.environ, **caches, "OMP_NUM_THREADS": "1"}
    command = [*before, sys.executable, "-c", SCRIPT, *arguments]
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def answer(process: subprocess.Popen[str]) -> Any:
    out, error = process.communicate("go\n", timeout=1800)  # eight at once take a minute on an idle machine
    assert process.returncode == 0, error
    *values, lowerings, compiles, faults = json.loads(out.splitlines()[-1])
    assert values == VALUES
    return lowerings, compiles, faults


# Root may write anywhere unless it gives up that it may.
BOUND = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner") if os.getuid() == 0 else ()


@pytest.mark.skipif(bool(BOUND) and shutil.which("setpriv") is None, reason="root needs setpriv to give up its rights")
def test_a_directory_that_may_not_be_written_to_is_used_and_left_as_it_is(tmp_path):
    assert answer(start(tmp_path))[:2] == (2, 2)
    root = tmp_path / "ours"
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    before = sorted(path.stat().st_mtime_ns for path in root.rglob("*"))
    for folder in folders:
        folder.chmod(0o500)
    try:
        lowerings, compiles, faults = answer(start(tmp_path, before=BOUND))
    finally:
        for folder in folders:
            folder.chmod(0o700)
    assert (lowerings, compiles) == (0, 0)
    assert set(faults) <= {"read_only"}
    assert sorted(path.stat().st_mtime_ns for path in root.rglob("*")) == before


@pytest.mark.slow
def test_eight_ranks_of_a_host_make_each_program_once(tmp_path):
    ranks = [start(tmp_path, "wait") for _ in range(8)]
    found = [answer(rank) for rank in ranks]
    assert sum(lowerings for lowerings, _, _ in found) == 2
    assert sum(compiles for _, compiles, _ in found) == 2
    assert [faults for *_, faults in found] == [{}] * 8


@pytest.mark.slow
def test_a_process_killed_while_it_compiles_leaves_nothing_that_harms(tmp_path):
    moment = random.Random(0)
    for _ in range(12):
        process = start(tmp_path, "wait")
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        time.sleep(moment.uniform(3, 8))  # the random moment itself
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert answer(start(tmp_path))[2] == {}
        if moment.random() < 0.5:
            shutil.rmtree(tmp_path / "ours", ignore_errors=True)
