"""The command line: `tpu-dynamo report` and `tpu-dynamo explain`."""

from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

from tests.diagnostics.reports import large
from tpu_dynamo.cli import app
from tpu_dynamo.diagnostics.report_files import write


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def saved(tmp_path):
    return write(large(tmp_path, 12), tmp_path / "run.json", ".json")


def test_a_saved_report_is_shown_and_written_in_other_forms(saved, tmp_path):
    files = {form: tmp_path / f"out.{form}" for form in ("html", "json", "sarif")}
    done = run("report", saved, *(part for form, file in files.items() for part in (f"--{form}", file)))
    assert done.exit_code == 0, done.output
    assert "12 graph breaks" in done.output
    assert files["html"].read_text().startswith("<!DOCTYPE html>")
    assert json.loads(files["json"].read_text()) == json.loads(saved.read_text())
    assert json.loads(files["sarif"].read_text())["version"] == "2.1.0"


def test_a_check_fails_on_what_is_new(saved, tmp_path):
    fewer = write(large(tmp_path, 10), tmp_path / "old.json", ".json")
    assert run("report", saved, "--baseline", saved, "--fail-on", "new").exit_code == 0
    done = run("report", saved, "--baseline", fewer, "--fail-on", "new")
    assert done.exit_code == 1
    assert "2 new, 11 known, 0 gone" in done.output
    assert run("report", saved, "--baseline", fewer, "--fail-on", "fundamental").exit_code == 0
    assert run("report", saved, "--baseline", saved, "--fail-on", "any").exit_code == 1


def test_annotations_are_printed_instead(saved):
    lines = run("report", saved, "--github").output.splitlines()
    assert len(lines) == 13
    assert all(line.startswith("::warning file=") for line in lines)


def test_a_redacted_report_names_no_file(saved, tmp_path):
    done = run("report", saved, "--redact", "--json", tmp_path / "shared.json")
    assert done.exit_code == 0
    assert str(tmp_path) not in (tmp_path / "shared.json").read_text()


def test_a_command_is_run_with_its_own_options_and_exit_code(tmp_path):
    code = "import sys; print(sys.argv[1:]); sys.exit(5)"
    done = run("report", "--json", tmp_path / "run.json", "--", sys.executable, "-c", code, "--html", "x")
    assert done.exit_code == 5
    assert "Nothing was compiled." in done.output
    assert json.loads((tmp_path / "run.json").read_text())["run"]["command"][-2:] == ["--html", "x"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["report"], "either a saved report or trace, or a command", id="nothing"),
        pytest.param(["report", "a.json", "--", "ls"], "either a saved report or trace, or a command", id="both"),
        pytest.param(["report", "/nowhere"], "there is no /nowhere", id="no-file"),
        pytest.param(["report", "/nowhere", "--fail-on", "some"], "there are new, any and fundamental", id="fail-on"),
        pytest.param(["explain", "TPU9"], "no code 'TPU9'", id="no-code"),
    ],
)
def test_what_cannot_be_done_is_refused_with_exit_code_2(arguments, message):
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_json_goes_to_stdout_where_it_is_asked_for(saved):
    assert json.loads(run("report", saved, "--json", "-").stdout) == json.loads(saved.read_text())
    assert json.loads(run("explain", "tpu201", "--json").stdout)["code"] == "TPU201"


def test_codes_are_explained():
    assert run("explain", "tpu201").output.startswith("# TPU201: A size changes")
    assert "choose by torch.where" in run("explain", "GB0170").output
