"""A program that compiles, trains and profiles ends well wherever it runs: no home, a full disk, `python -OO`, few files."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

JOB = """
import torch
import tpu_dynamo

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
x = torch.randn(5, 8)
expected = model(x)
compiled = torch.compile(model, backend="tpu_dynamo")
torch.testing.assert_close(compiled(x), expected)
compiled(x).sum().backward()
model, y = model.to("tpu"), x.to("tpu")
torch.testing.assert_close((model(y) + y.sum()).cpu(), expected + x.sum(), rtol=1e-4, atol=1e-4)
step = tpu_dynamo.train_step(model, torch.optim.AdamW(model.parameters()), torch.nn.functional.mse_loss)
losses = [float(step(y, torch.zeros(5, 4, device="tpu"))) for _ in range(2)]
if not losses[1] < losses[0]:
    raise SystemExit(f"it does not learn: {losses}")
with tpu_dynamo.profile() as run:
    compiled(y)
str(run)
stats = tpu_dynamo.stats()
print("made", stats.lowerings, stats.xla_compiles, *sorted(stats.cache_faults))
"""
OTHER_BACKEND = """
def tpu(graph, inputs):
    raise SystemExit("the other backend ran")
"""


def run(
    tmp_path: Path, *arguments: str, limits: Callable[[], None] | None = None, **variables: str | None
) -> subprocess.CompletedProcess[str]:
    """Run the job in a process; a variable that is None is not set."""
    (tmp_path / "job.py").write_text(JOB)
    environment = {**os.environ, "TPU_DYNAMO_CACHE_DIR": str(tmp_path / "cache"), **variables}
    return subprocess.run(
        [sys.executable, *arguments, "job.py"],
        env={name: value for name, value in environment.items() if value is not None},
        cwd=tmp_path, preexec_fn=limits, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


def made(ended: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what the job printed last: programs lowered and compiled, and the faults of its cache."""
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()[-1].split()[1:]


def limited(kind: int, most: int) -> Callable[[], None]:
    """Return what lowers one of a process's limits."""
    return lambda: resource.setrlimit(kind, (most, most))


@pytest.mark.parametrize("home", [None, "/nonexistent/home"], ids=["no-home", "home-that-is-not-there"])
def test_without_a_home_it_runs_with_a_store_elsewhere_or_none(home, tmp_path):
    ended = run(tmp_path, HOME=home, TPU_DYNAMO_CACHE_DIR=None, XDG_CACHE_HOME=str(tmp_path / "caches"))
    assert len(made(ended)) == 2


def test_files_that_cannot_be_written_are_counted_and_said_once(tmp_path):
    """No file may exceed a kilobyte, which is what a program sees of a disk that is full."""
    ended = run(tmp_path, limits=limited(resource.RLIMIT_FSIZE, 1024))
    _, _, *faults = made(ended)
    assert faults
    assert ended.stderr.count("tpu_dynamo") + ended.stderr.count("store:") <= 2 * len(faults) + 2
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "limits",
    [limited(resource.RLIMIT_NOFILE, 48), limited(resource.RLIMIT_AS, 6 << 30)],
    ids=["48-files", "6-GiB-of-addresses"],
)
def test_it_needs_few_files_and_little_memory(limits, tmp_path):
    assert len(made(run(tmp_path, limits=limits))) == 2


def test_without_docstrings_and_asserts_it_is_the_same(tmp_path):
    assert len(made(run(tmp_path, "-OO"))) == 2
    assert made(run(tmp_path, "-OO")) == ["0", "0"]


def test_in_development_mode_it_warns_of_nothing_of_ours(tmp_path):
    ended = run(tmp_path, PYTHONDEVMODE="1")
    made(ended)
    lines = ended.stderr.splitlines()
    assert not [line for line in lines if "Warning" in line and "tpu_dynamo" in line]


def test_another_package_that_calls_its_backend_tpu_does_not_matter_under_our_longer_name(tmp_path):
    package = tmp_path / "other" / "other_tpu-1.dist-info"
    package.mkdir(parents=True)
    (package.parent / "other_tpu.py").write_text(OTHER_BACKEND)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: other-tpu\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[torch_dynamo_backends]\ntpu = other_tpu:tpu\n")
    path = os.pathsep.join(filter(None, (str(package.parent), os.environ.get("PYTHONPATH"))))
    assert len(made(run(tmp_path, PYTHONPATH=path))) == 2
