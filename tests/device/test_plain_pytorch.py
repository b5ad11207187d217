"""`import tpu_dynamo` changes nothing for code that does not use it: plain CPU code in two processes, with and without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("plain_pytorch.py")


@pytest.mark.parametrize("kind", [[], pytest.param(["--slow"], marks=pytest.mark.slow)], ids=["quick", "slow"])
def test_plain_cpu_code_does_what_it_did(kind):
    command = [sys.executable, "-W", "ignore", str(SCRIPT), *kind]
    runs = [
        subprocess.Popen([*command, *modules], stdout=subprocess.PIPE, text=True) for modules in ([], ["tpu_dynamo"])
    ]
    without, with_import = (run.communicate()[0].splitlines() for run in runs)
    assert [run.returncode for run in runs] == [0, 0]
    assert without
    assert with_import == without
