"""Behaviour that only a fresh process shows: imports without side effects, logging by TORCH_LOGS, the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HANG = 900  # seconds; each process takes some seconds on an idle machine


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=HANG
    )


def test_import_touches_no_device_and_no_global_state():
    code = """
import os, logging
before = dict(os.environ)
import torch, jax
from jax._src import xla_bridge
x64 = jax.config.jax_enable_x64
handlers = list(logging.getLogger().handlers)
import tpu_dynamo
from tpu_dynamo_runtime import client
assert not client.__globals__["_clients"], "a client was made"
assert not xla_bridge._backends, "JAX initialised a backend"
assert jax.config.jax_enable_x64 == x64
assert logging.getLogger().handlers == handlers
assert "tpu" in torch._dynamo.list_backends()
out = torch.compile(lambda x: torch.sort(x)[0] + x.histc(4).sum(), backend="tpu")(torch.randn(4).double())
assert out.dtype == torch.float64
assert jax.config.jax_enable_x64 == x64
assert not xla_bridge._backends, "lowering initialised a JAX backend"
changed = {k for k in os.environ if before.get(k) != os.environ[k]} - {"TF_CPP_MIN_LOG_LEVEL", "TPU_ML_PLATFORM"}
print("changed:", sorted(changed))
"""
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_torch_logs_shows_the_platform_and_each_graph():
    code = """
import torch
torch.compile(lambda x: x + 1, backend="tpu")(torch.ones(3))
"""
    logged = run(code, TORCH_LOGS="+tpu_dynamo").stderr
    assert "target 'auto' runs on the PJRT platform cpu" in logged
    assert "platform cpu cpu" not in logged
    assert "-inference: program in" in logged
    assert "tpu_dynamo" not in run(code).stderr


def test_the_command_line_says_its_version():
    command = Path(sys.executable).with_name("tpu-dynamo")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0
    assert done.stdout.startswith("tpu-dynamo ")
