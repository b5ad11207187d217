"""CONTRIBUTING.md's example of a new operator works as it is printed, on a copy of the package without anything else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import tpu_dynamo_lowering
from tpu_dynamo_lowering import all_lowerings

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n# (\S+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REGISTERED = re.compile(r'^@(?:kernel\((aten\.\S+)\)|foreign_kernel\("(\S+)"\))$', re.MULTILINE)


def examples() -> dict[str, str]:
    """Read the files that CONTRIBUTING.md prints, by the path in their first line."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return {path: f"# {path}\n{code}" for path, code in BLOCK.findall(text)}


def test_the_examples_are_operators_without_a_lowering():
    named = {ours or theirs for code in examples().values() for ours, theirs in REGISTERED.findall(code)}
    assert len(named) == 2
    assert not named & {str(lowering.overload) for lowering in all_lowerings()}


def test_the_examples_work_when_pasted(tmp_path):
    package = Path(tpu_dynamo_lowering.__file__).parent
    shutil.copytree(package, tmp_path / "lowering" / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests" / "lowering").mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    pasted = examples()
    assert len(pasted) == 4
    for path, code in pasted.items():
        assert not (ROOT / path).exists(), "the example has been added: print another one"
        (tmp_path / path).write_text(code, encoding="utf-8")
    assert "8 passed" in run(tmp_path, "pytest", "-q", "tests")
    run(tmp_path, "ruff", "check", *pasted)
    run(tmp_path, "ruff", "format", "--check", *pasted)


def run(folder: Path, *command: str) -> str:
    """Run a Python module on the copy of the package in a folder, which must succeed; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "lowering")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
