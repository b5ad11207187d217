"""A profile in a process in which JAX has loaded libtpu, without a TPU."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tpu_dynamo_runtime import plugin_installed, tpu_chips

CODE = """
import jax, torch, tpu_dynamo
jax.devices()
compiled = torch.compile(lambda x: x @ x, backend="tpu")
x = torch.ones(8, 8)
compiled(x)
with tpu_dynamo.profile() as run:
    compiled(x)
print([graph.split for graph in run.profile.graphs])
"""


@pytest.mark.slow
@pytest.mark.skipif(not plugin_installed("tpu") or tpu_chips() > 0, reason="needs libtpu, and no TPU")
def test_executions_are_measured_without_pjrts_profiler():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] in ("['cost']", "['none']")  # a program this small has no estimate
