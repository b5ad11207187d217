"""`tpu-dynamo profile`: of a command, of a saved profile, and what it refuses."""

from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

from tpu_dynamo.cli import app
from tpu_dynamo.profiling.files import read_profile

SCRIPT = """
import sys, torch
model = torch.compile(torch.nn.Linear(8, 8), backend="tpu")
for _ in range(7):
    model(torch.ones(2, 8)).sum().backward()
sys.exit(3)
"""


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.slow
def test_a_few_steps_of_a_command_are_recorded_and_shown_again(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    out = tmp_path / "out"
    asked = ("--skip", 2, "--steps", 3, "-o", out)
    done = run("profile", *asked, "--json", "--", sys.executable, tmp_path / "train.py")
    assert done.exit_code == 3, done.output
    profile = read_profile(out / "profile.json")
    assert {graph.calls for graph in profile.graphs} == {3}
    assert len(profile.steps) == 3
    assert profile.parts["compile"] == 0
    assert profile.command[1].endswith("train.py")
    assert (out / "profile.html").stat().st_size > 1000
    assert json.loads((out / "profile.trace.json").read_text())["traceEvents"]
    (trace,) = (out / "plugins" / "profile" / "run").glob("*.xplane.pb")
    assert trace.stat().st_size > 1000
    again = run("profile", out / "profile.json")
    assert again.exit_code == 0
    assert "3 steps of" in again.output
    assert "train.py:5" in again.output


def test_a_command_without_repeated_graphs_says_so(tmp_path):
    done = run("profile", "-o", tmp_path / "out", "--", sys.executable, "-c", "print(1)")
    assert done.exit_code == 0
    assert "--skip 0" in done.output
    assert not (tmp_path / "out").exists()


def test_what_is_no_profile_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    for arguments in ([], [tmp_path / "x.json"], [tmp_path / "none.json"], ["--", tmp_path / "no-such-command"]):
        assert run("profile", *arguments).exit_code == 2, arguments
