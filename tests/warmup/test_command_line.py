"""The command line end to end: processes of its own that warm, check, record, and die."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.warmup import warm_models
from tpu_dynamo.cli import app
from tpu_dynamo.warmup.cases import Case
from tpu_dynamo.warmup.workers import Workers

MANIFEST = """\
schema = 1

[defaults]
targets = ["cpu"]

[model.good]
factory = "warm_models:mlp"
modes = ["inference", "train"]
inputs = [{ shape = [3, 16] }]

[model.killed]
factory = "warm_models:killed"
inputs = [{ shape = [3, 16] }]

[model.waiting]
factory = "warm_models:waiting"
timeout = 0.5
inputs = [{ shape = [3, 16] }]

[model.raising]
factory = "warm_models:raising"
inputs = [{ shape = [3, 16] }]

[model.last]
factory = "warm_models:with_inputs"
"""
PLAIN = """\
import torch, tpu_dynamo, warm_models
model = torch.compile(warm_models.Mlp(), backend="tpu")
with torch.no_grad():
    model.eval()(torch.randn(3, 16))
model.train()(torch.randn(3, 16)).sum().backward()
stats = tpu_dynamo.stats()
print(stats.graphs, stats.lowerings, stats.xla_compiles)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with a manifest and the models that it names; the present folder."""
    shutil.copy(str(warm_models.__file__), tmp_path / "warm_models.py")
    (tmp_path / "manifest.toml").write_text(MANIFEST)
    (tmp_path / "plain.py").write_text(PLAIN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tpu_dynamo(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    command = [sys.executable, "-m", "tpu_dynamo.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_a_manifest_is_warmed_whatever_some_cases_do_and_a_plain_process_compiles_nothing(folder):
    done = tpu_dynamo("warmup", "manifest.toml", "--json", "--report", "report")
    assert done.returncode == 4, done.stderr
    cases = {case["name"]: case for case in json.loads(done.stdout)["cases"]}
    assert {name: (case["state"], case["kind"]) for name, case in cases.items()} == {
        "good/inference/cpu": ("made", None),
        "good/train/cpu": ("made", None),
        "killed/inference/cpu": ("failed", "crashed"),
        "waiting/inference/cpu": ("failed", "timeout"),
        "raising/inference/cpu": ("failed", "usage"),
        # Equal to what was made already.
        "last/inference/cpu": ("found", None),
    }
    assert "SIGKILL" in cases["killed/inference/cpu"]["why"]
    assert "no such checkpoint" in cases["raising/inference/cpu"]["why"]
    assert json.loads((folder / "report" / "report.json").read_text())["cases"] == list(cases.values())
    assert "| `good/train/cpu` | made | 2 | 2 | 2 |" in (folder / "report" / "report.md").read_text()

    good = ("warmup", "manifest.toml", "--only", "good", "--only", "last")
    resumed = tpu_dynamo(*good, "--resume", "--json")
    assert resumed.returncode == 0
    assert {case["state"] for case in json.loads(resumed.stdout)["cases"]} == {"skipped"}
    checked = tpu_dynamo(*good, "--check")
    assert checked.returncode == 0, checked.stdout
    assert "nothing is missing" in checked.stderr

    # The user's own command, recorded: it compiles nothing.
    ran = tpu_dynamo("run", "-o", "recorded", "--json", "--", sys.executable, "plain.py")
    assert ran.returncode == 0, ran.stderr
    said, _, data = ran.stdout.partition("\n")
    assert said == "{'inference': 1, 'forward': 1, 'backward': 1} 0 0"
    recorded = json.loads(data)
    assert (recorded["lowerings"], recorded["xla_compiles"], recorded["misses"]) == (0, 0, [])
    assert [graph["role"] for graph in recorded["graphs"]] == ["inference", "forward", "backward"]
    assert recorded["graphs"][0]["inputs"]["L['x']"]["size"] == [3, 16]
    assert "L['x'] float32[3, 16]" in (folder / "recorded" / "report.md").read_text().replace("`", "")


BUCKETS = """\
schema = 1
[model.mlp]
factory = "warm_models:mlp"
targets = ["cpu"]
options = { buckets = "pow2" }
dims = { n = { min = 2, max = 8 } }
inputs = [{ shape = ["n", 16] }]
"""
SERVER = """\
import torch, tpu_dynamo, warm_models
model = torch.compile(warm_models.Mlp().eval(), backend="tpu", options={"buckets": "pow2"})
with torch.no_grad(), tpu_dynamo.forbid_compile():
    for size in (5, 2, 8, 3):
        x = torch.randn(size, 16)
        torch._dynamo.mark_dynamic(x, 0, min=2, max=8)
        model(x)
stats = tpu_dynamo.stats()
print(stats.graphs, stats.lowerings, stats.xla_compiles)
"""


@pytest.mark.slow
def test_buckets_are_warmed_in_parallel_and_a_server_lowers_and_compiles_nothing(folder):
    (folder / "buckets.toml").write_text(BUCKETS)
    (folder / "server.py").write_text(SERVER)
    first = tpu_dynamo("warmup", "buckets.toml", "--only", "mlp/inference/n=..4/*", "--json")
    assert [case["state"] for case in json.loads(first.stdout)["cases"]] == ["made"], first.stderr
    missing = tpu_dynamo("warmup", "buckets.toml", "--check", "--json")
    assert [case["state"] for case in json.loads(missing.stdout)["cases"]] == ["missing", "found", "missing"]
    done = tpu_dynamo("warmup", "buckets.toml", "-j", "2", "--resume", "--json")
    states = {case["name"]: case["state"] for case in json.loads(done.stdout)["cases"]}
    assert states == {f"mlp/inference/n=..{n}/cpu": "skipped" if n == 4 else "made" for n in (2, 4, 8)}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    served = subprocess.run([sys.executable, "server.py"], capture_output=True, text=True, env=environment)
    assert served.stdout == "{'inference': 1} 0 0\n", served.stderr


@pytest.mark.slow
def test_a_recorded_command_is_a_manifest_that_warms_another_cache(folder):
    (folder / "job.py").write_text("import plain, sys\nsys.exit(int(sys.argv[1:] == ['7']) * 7)\n")
    recorded = tpu_dynamo("run", "-o", "out", "--", sys.executable, "job.py", "7")
    assert recorded.returncode == 7
    assert "3 lowered, 3 compiled" in recorded.stderr
    manifest = folder / "out" / "manifest.toml"
    refused = tpu_dynamo("warmup", str(manifest), "--json")
    assert refused.returncode == 4
    assert "exit status 7" in json.loads(refused.stdout)["cases"][0]["why"]
    manifest.write_text(manifest.read_text().replace(', "7"]', "]"))
    missing = tpu_dynamo("warmup", str(manifest), "--check", "--cache-dir", "other", "--json")
    assert missing.returncode == 1
    (case,) = json.loads(missing.stdout)["cases"]
    assert (case["state"], len(case["missing"])) == ("missing", 3)
    assert tpu_dynamo("warmup", str(manifest), "--cache-dir", "other").returncode == 0
    assert tpu_dynamo("warmup", str(manifest), "--check", "--cache-dir", "other").returncode == 0


def test_a_worker_that_is_killed_fails_its_case_and_the_next_goes_on(folder):
    def case(name: str, factory: str) -> Case:
        return Case(name, name, "cpu", factory=f"warm_models:{factory}", folders=(str(folder),))

    with Workers(1) as workers:
        assert [found.model for found in workers.cases_in("warm_models", [str(folder)], [])] == ["decorated"] * 4
        with pytest.raises(LookupError, match="no module named 'warm_modls'"):
            workers.cases_in("warm_modls", [str(folder)], [])
        # An idle worker that is gone fails no case: the next one gets a new worker.
        (idle,) = workers.processes()
        os.kill(idle, signal.SIGKILL)
        os.waitid(os.P_PID, idle, os.WEXITED | os.WNOWAIT)
        events = []
        for event in workers.run([case("first", "waiting"), case("second", "with_inputs")]):
            events.append(event)
            if event.stage == "build" and event.case.name == "first":
                os.kill(workers.processes()[0], signal.SIGSEGV)
    outcomes = {event.case.name: event.outcome for event in events if event.outcome}
    assert outcomes["first"]["kind"] == "crashed"
    assert "SIGSEGV" in outcomes["first"]["why"]
    assert outcomes["second"]["state"] == "made"
    stages = [event.stage for event in events if event.case.name == "second" and event.stage]
    assert list(dict.fromkeys(stages)) == ["start", "build", "trace", "lower", "compile", "store"]
    assert workers.processes() == []


def test_what_is_wrong_before_anything_runs_is_said_and_exits_with_2(folder, monkeypatch):
    run = CliRunner()
    (folder / "bad.toml").write_text(MANIFEST.replace("factory", "factry", 1))
    for arguments, words in {
        ("warmup", "bad.toml"): ["bad.toml:7: model.good.factry", "did you mean 'factory'?"],
        ("manifest", "check", "bad.toml"): ["bad.toml:7"],
        ("warmup", "manifest.toml", "--only", "god"): ["no case is named god", "good"],
        ("warmup", "manifest.toml", "--target", "v5e:3x3"): ["unknown target 'v5e:3x3'"],
        ("warmup", "manifest.toml", "--push"): ["--remote"],
        ("warmup", "manifest.toml", "--check", "--resume"): ["--check makes nothing"],
        ("warmup", "none.toml"): ["none.toml: cannot be read"],
        ("run",): ["behind --"],
        ("run", "--", "no-such-command"): ["no-such-command"],
    }.items():
        result = run.invoke(app, list(arguments))
        assert result.exit_code == 2, (arguments, result.output)
        for word in words:
            assert word in result.output
    monkeypatch.setenv("TPU_DYNAMO_CACHE", "off")
    assert run.invoke(app, ["warmup", "manifest.toml"]).exit_code == 3


def test_a_dry_run_lists_the_cases_and_starts_nothing(folder):
    result = CliRunner().invoke(app, ["warmup", "manifest.toml", "--dry-run", "--json", "--mode", "both"])
    assert result.exit_code == 0
    assert [case["name"] for case in json.loads(result.stdout)][:3] == [
        "good/inference/cpu", "good/train/cpu", "killed/inference/cpu",
    ]  # fmt: skip


def test_costs_and_forms_of_a_model(folder, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])  # the verbs put the working directory into it
    run = CliRunner()
    shown = run.invoke(app, ["cost", "warm_models:with_inputs", "--target", "cpu", "--training"])
    assert shown.exit_code == 0, shown.output
    assert "return self.last(torch.dropout(torc" in shown.stdout
    assert "0001-backward" in shown.stdout
    data = json.loads(run.invoke(app, ["cost", "warm_models:with_inputs", "--target", "cpu", "--json"]).stdout)
    assert data[0]["graph"] == "0000-inference"
    assert sum(line["bytes_accessed"] for line in data[0]["lines"]) == data[0]["bytes_accessed"]
    forms = ["fx", "torch", "stablehlo", "hlo", "cost", "exe"]
    arguments = [word for form in forms for word in ("--emit", form)]
    written = run.invoke(app, ["compile", "warm_models:with_inputs", "--target", "cpu", "-o", "all", *arguments])
    assert written.exit_code == 0, written.output
    assert sorted(file.name for file in (folder / "all").iterdir()) == sorted(
        f"0000-inference.{form}"
        for form in ("fx.py", "torch.mlir", "stablehlo.mlir", "hlo.txt", "cost.json", "executable")
    )
    lowered = run.invoke(
        app, ["compile", "warm_models:with_inputs", "--target", "cpu", "-o", "low", "--emit", "stablehlo"]
    )
    assert lowered.exit_code == 0, lowered.output
    (low,) = (folder / "low").iterdir()
    assert low.read_text() == (folder / "all" / low.name).read_text()
    assert run.invoke(app, ["cost", "warm_models:raising", "--target", "cpu"]).exit_code == 2
