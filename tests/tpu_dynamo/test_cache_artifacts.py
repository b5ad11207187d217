"""torch.compiler.save_cache_artifacts() and load_cache_artifacts() carry our entries to another directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import tpu_dynamo
from tpu_dynamo.cache.portable import StoreArtifact
from tpu_dynamo.cache.settings import cache_settings
from tpu_dynamo.session import session
from tpu_dynamo_runtime.store import entries, remove

SAVE = """
import sys, torch, tpu_dynamo
model = torch.nn.Linear(4, 2)
model.weight.data.fill_(0.5), model.bias.data.fill_(1)
compiled = torch.compile(model, backend="tpu")
compiled(torch.ones(3, 4)).sum().backward()
saved, info = torch.compiler.save_cache_artifacts()
assert {name.split("/")[0] for name in info.artifacts["tpu_dynamo"]} == {"program", "executable"}, info
open(sys.argv[1], "wb").write(saved)
"""
LOAD = """
import json, sys, torch, tpu_dynamo
data = open(sys.argv[1], "rb").read()
info = torch.compiler.load_cache_artifacts(data)
model = torch.nn.Linear(4, 2)
model.weight.data.fill_(0.5), model.bias.data.fill_(2)
out = torch.compile(model, backend="tpu")(torch.ones(3, 4))
out.sum().backward()
stats = tpu_dynamo.stats()
print(json.dumps([float(out[0, 0]), float(model.weight.grad[0, 0]), stats.as_dict()]))
"""


def run(code: str, folder: Path, *arguments: object) -> str:
    caches = {"TPU_DYNAMO_CACHE_DIR": str(folder / "ours"), "TORCHINDUCTOR_CACHE_DIR": str(folder / "torchs")}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(
        command, env={**os.environ, **caches}, capture_output=True, text=True, timeout=900
    )  # some seconds when idle
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded(file: Path, folder: Path) -> Any:
    value, gradient, stats = json.loads(run(LOAD, folder, file).splitlines()[-1])
    assert (value, gradient) == (4.0, 3.0)
    return stats


def test_what_one_process_saved_another_loads_into_its_own_directories(tmp_path):
    file = tmp_path / "artifacts"
    run(SAVE, tmp_path / "one", file)
    stats = loaded(file, tmp_path / "two")
    assert (stats["lowerings"], stats["xla_compiles"]) == (0, 0)
    assert stats["autograd_cache"] == {"hit": 1}
    assert stats["cache_faults"] == {}


def test_an_entry_that_is_unfit_is_counted_and_does_not_reach_the_store():
    torch.compile(lambda x: x + 1, backend="tpu")(torch.ones(3))
    cache = session().cache(cache_settings())
    assert cache is not None
    source = cache.store
    (program,) = entries(source, "program")
    data = bytearray(source.get_file("program", program.key) or b"")
    remove(source, "program", program.key)
    StoreArtifact(f"program/{program.key}", bytes(data)).populate_cache()
    assert source.get("program", program.key) is not None
    remove(source, "program", program.key)
    data[-10] ^= 1
    StoreArtifact(f"program/{program.key}", bytes(data)).populate_cache()
    assert tpu_dynamo.stats().cache_faults == {"damaged": 1}
    assert source.get("program", program.key) is None
