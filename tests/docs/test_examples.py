"""The examples that no other test runs, run as their first lines say; tests/distributed runs train_fsdp.py."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .pages import ROOT

# Arguments, and what is printed at the end.
EXAMPLES = {
    "digits.py": ([], "equal predictions: 450 of 450"),
    "generate.py": ([], ""),
    "graph_breaks.py": (["--fixed"], "no graph break"),
    "train_digits.py": ([], ""),
    "train_gpt.py": (["--steps", "10"], ""),
    "train_trainer.py": ([], ""),
}
# Of the extra `ecosystem`.
NEEDS = {"train_trainer.py": "accelerate"}


def test_every_example_is_run():
    elsewhere = {"train_fsdp.py", "warmup_models.py"}
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == EXAMPLES.keys() | elsewhere


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name, tmp_path):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    arguments, told = EXAMPLES[name]
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert told in done.stdout
