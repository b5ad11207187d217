"""Users' commands run with the Python and the scripts of this environment."""

import os
import sys

import pytest

from tpu_dynamo.activated import activated
from tpu_dynamo.diagnostics.report_sources import run_and_read
from tpu_dynamo.warmup.commands import run_recorded

COMMAND = ["python", "-c", "import os, sys; open(os.environ['FOUND'], 'w').write(sys.prefix)"]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A shell in which this environment is not activated; the file that the command writes."""
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.setenv("FOUND", str(tmp_path / "found"))
    return tmp_path / "found"


def test_a_reported_command(elsewhere):
    assert run_and_read(COMMAND)[1] == 0
    assert elsewhere.read_text() == sys.prefix


def test_a_recorded_command(elsewhere):
    assert run_recorded(COMMAND, os.environ)[0] == 0
    assert elsewhere.read_text() == sys.prefix


def test_without_any_path():
    assert activated({})["PATH"].split(os.pathsep) == [os.path.dirname(sys.executable), *os.defpath.split(os.pathsep)]
    assert activated({"PATH": ""})["PATH"] == os.path.dirname(sys.executable)
