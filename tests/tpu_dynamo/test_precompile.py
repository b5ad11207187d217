"""tpu_dynamo.precompile: a later process traces nothing, and never runs what is no longer the model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import tpu_dynamo
from tpu_dynamo.precompiled.identity import code_digest, describe, find

MODEL = """
import torch
class Model(torch.nn.Module):
    def __init__(self, act=torch.relu, fill=0.5):
        super().__init__()
        self.linear, self.act = torch.nn.Linear(4, 2), act
        self.linear.weight.data.fill_(fill), self.linear.bias.data.fill_(-1)
    def forward(self, x):
        return {"out": self.act(self.linear(x)) * SCALE, "rows": x.shape[0]}
class Local(Model):
    def forward(self, x):
        return {"out": self.linear(x) * self.held.k, "rows": 3}
SCALE = 2.0
"""
# Each line of the answer is a model, called with and without precompile, and what happened.
RUN = """
import json, sys, torch, tpu_dynamo, model
from torch._dynamo.utils import counters
def told(name, built, *xs, **options):
    tpu_dynamo.reset_stats(); torch._dynamo.reset(); counters.clear()
    with torch.no_grad():
        compiled = tpu_dynamo.precompile(built, options=options)
        for x in xs:
            torch.testing.assert_close(compiled(x), built(x))
    stats = tpu_dynamo.stats()
    print(json.dumps([name, stats.precompile, stats.lowerings, sum(counters["stats"].values()), stats.cache_faults]))
x = torch.arange(12.0).reshape(3, 4)
for case in sys.argv[1:]:
    if case == "same": told(case, model.Model(), x)
    if case == "weights": told(case, model.Model(fill=0.25), x)
    if case == "act": told(case, model.Model(torch.tanh), x)
    if case == "shape": told(case, model.Model(), x, x[:2])
    if case == "options": told(case, model.Model(), x, partitioner="default")
    if case == "function": told(case, torch.nn.functional.gelu, x)
    if case == "local":
        built = model.Local()
        built.held = type("Held", (), {"__qualname__": "f.<locals>.Held"})(); built.held.k = 2.0
        told(case, built, x)
"""


def run(folder: Path, *cases: str) -> dict[str, Any]:
    caches = {"TPU_DYNAMO_CACHE_DIR": str(folder / "ours"), "TORCHINDUCTOR_CACHE_DIR": str(folder / "torchs")}
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", RUN, *cases],
        env={**os.environ, **caches, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=900,  # some seconds on an idle machine
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    return {name: {"told": told, "lowerings": n, "traced": bool(t), "faults": f} for name, told, n, t, f in lines}


@pytest.mark.slow
def test_a_later_process_traces_nothing_and_nothing_that_changed_is_believed(tmp_path):
    (tmp_path / "model.py").write_text(MODEL)
    first = run(tmp_path, "same")["same"]
    assert (first["told"], first["lowerings"], first["traced"]) == ({"miss": 1}, 1, True)

    later = run(tmp_path, "same", "weights", "shape", "act", "options")
    for case in ("same", "weights"):
        assert later[case] == {"told": {"hit": 1}, "lowerings": 0, "traced": False, "faults": {}}
    assert later["shape"]["told"].pop("hit") == 1
    assert later["shape"]["lowerings"] == 1
    (why,) = later["act"]["told"]
    assert "act" in why and "relu" in why and "tanh" in why
    assert later["options"]["told"] == {"miss": 1}

    (tmp_path / "model.py").write_text(MODEL.replace("* SCALE", "* SCALE + 1"))
    assert run(tmp_path, "same")["same"]["told"] == {"miss": 1}
    (tmp_path / "model.py").write_text(MODEL.replace("* SCALE", "* SCALE + 1").replace("SCALE = 2.0", "SCALE = 3.0"))
    run(tmp_path, "same")  # checks the values

    for file in (tmp_path / "ours" / "precompiled" / "entries").rglob("*/*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:-9])
    damaged = run(tmp_path, "same", "local")
    assert damaged["same"]["told"] == {"miss": 1}
    assert damaged["same"]["faults"] == {"damaged": 1}
    assert damaged["local"]["told"].pop("miss") == 1
    assert "Held" in str(damaged["local"]["told"]) or "held" in str(damaged["local"]["told"])


def test_without_a_cache_a_model_is_compiled_as_ever():
    model = tpu_dynamo.precompile(torch.nn.Linear(3, 2), options={"cache": False})
    x = torch.ones(2, 3)
    torch.testing.assert_close(model(x), model.forward(x))
    assert tpu_dynamo.stats().precompile == {"the cache is off": 1}
    assert tpu_dynamo.stats().executions == 1


def test_errors_are_those_of_the_model():
    with pytest.raises(torch._dynamo.exc.Unsupported):
        tpu_dynamo.precompile(broken)(torch.ones(3))
    with pytest.raises(tpu_dynamo.OptionError):
        tpu_dynamo.precompile(broken, options={"partitoner": "default"})


def broken(x: torch.Tensor) -> torch.Tensor:
    torch._dynamo.graph_break()
    return x


def test_functions_are_told_apart_by_what_they_do_and_not_by_where_they_stand():
    def made(source: str) -> Any:
        scope: dict[str, Any] = {}
        exec(compile(source, "file.py", "exec"), scope)
        return scope["f"].__code__

    plain = "def f(x):\n    return x + 1\n"
    assert code_digest(made(plain)) == code_digest(made("\n\n# moved\n" + plain))
    others = ["return x + 2", "return x - 1", "return x + 1.0", "return (lambda: x + 1)()", "return x in {'a', 'b'}"]
    digests = {code_digest(made(f"def f(x):\n    {other}\n")) for other in others}
    assert len(digests | {code_digest(made(plain))}) == len(others) + 1


def test_what_has_no_name_has_no_description():
    assert describe(torch.relu) == ["builtin", "torch", torch.relu.__qualname__]
    assert describe(torch.nn.Linear) == ["class", "torch.nn.modules.linear", "Linear"]
    assert describe(object()) is None
    assert describe(type("Local", (), {"__qualname__": "f.<locals>.Local"})) is None


@pytest.mark.parametrize("name", ["__import__('os')", "G['x'].__class__(1)", "(lambda: 1)()", "L['y']", "x", "G['x'"])
def test_nothing_is_evaluated_but_places(name):
    with pytest.raises(LookupError):
        find(name, {"G": {"x": [1]}, "L": {}})


def test_places_are_found():
    scopes = {"G": {"x": {"a": [torch.nn.ReLU()]}}, "L": {}}
    assert find("type(G['x']['a'][0]).__mro__[1]", scopes) is torch.nn.Module
    assert find("dict.__getitem__(G['x'], list(dict.keys(G['x']))[0])[0].inplace", scopes) is False
