"""Programs with custom calls, as into LAPACK: a process runs them whether it lowered them or found them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import torch

import tpu_dynamo
from tests.tpu_dynamo.test_cache import made, run
from tpu_dynamo.cache import programs
from tpu_dynamo.cache.settings import cache_settings
from tpu_dynamo.session import session
from tpu_dynamo_runtime import unknown_targets
from tpu_dynamo_runtime.store import entries

SECOND = """
import torch, tpu_dynamo
torch.manual_seed(0)
x = torch.randn(4, 4)
x = x @ x.T + 4 * torch.eye(4)
def factor(x):
    return torch.linalg.cholesky(x), torch.linalg.qr(x)[1].abs(), torch.linalg.svdvals(x), torch.linalg.inv(x)
torch.testing.assert_close(torch.compile(factor, backend="tpu")(x), factor(x), rtol=1e-4, atol=1e-4)
device = torch.linalg.eigvalsh(x.to("tpu")).cpu()
torch.testing.assert_close(device, torch.linalg.eigvalsh(x), rtol=1e-4, atol=1e-4)
stats = tpu_dynamo.stats()
print(stats.lowerings, stats.xla_compiles)
"""


def test_a_second_process_calls_into_lapack(tmp_path):
    environment = dict(
        os.environ, TPU_DYNAMO_CACHE_DIR=str(tmp_path / "ours"), TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "torchs")
    )
    command = [sys.executable, "-W", "ignore", "-c", SECOND]
    first, second = (subprocess.run(command, env=environment, capture_output=True, text=True) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert second.returncode == 0, second.stderr
    assert second.stdout.split() == ["0", "0"]


def test_programs_name_their_custom_calls():
    run(torch.linalg.qr, torch.randn(3, 3))
    (listed,) = [entry for entry in entries(session().cache(cache_settings()).store) if entry.kind == programs.KIND]
    program = programs.find(session().cache(cache_settings()).store, listed.key)
    assert program is not None
    assert program.custom_calls == ("lapack_sgeqrf_ffi", "lapack_sorgqr_ffi")
    assert unknown_targets("cpu", program.custom_calls) == []


def test_a_program_that_calls_what_nobody_registered_is_a_miss(monkeypatch):
    run(torch.sort, torch.randn(3))
    find = programs.find

    def calls_more(*args, **kwargs):
        program = find(*args, **kwargs)
        return program and replace(program, custom_calls=("somebodys_target",))

    monkeypatch.setattr(programs, "find", calls_more)
    run(torch.sort, torch.randn(3))
    assert made() == (1, 0)
    assert tpu_dynamo.stats().cache_misses["signature"] == 1
    assert "calls somebodys_target, which nothing here has registered" in str(tpu_dynamo.explain_last_miss())


def test_targets_of_other_platforms_are_for_their_plugins():
    assert unknown_targets("tpu", ["somebodys_target"]) == []
    assert unknown_targets("cpu", ["TopK"]) == []
    assert unknown_targets("cpu", ["somebodys_target"]) == ["somebodys_target"]
