"""Run a spread of the suite with each Python, torch and jax of a list, and write what came of it.

    python -m tests.matrix                      # every cell: its environment is made, run in, and removed
    python -m tests.matrix --only 3.12          # the cells of one Python
    python -m tests.matrix --with PYTHON        # in an environment that exists, by its interpreter

A cell needs `pythonX.Y` on the PATH, some gigabytes for torch, and half an hour. Its row takes the place of that of the
same minor releases in `tpu_dynamo/doctor/tested.json`, from which docs/versions.md is written and the doctor knows what
was tested together; parts that were not run again stay as they were if the versions are the same.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tpu_dynamo.doctor.combinations import TESTED, combination

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "versions.md"

# Python, torch and jax: the oldest that we take and the newest, and for the Python between them what most people have.
CELLS = [("3.11", "2.13", "0.10.2"), ("3.12", "2.14", "0.12"), ("3.13", "2.15", "0.12")]

# What breaks with a release, by what it tests.
SPREAD = {
    "lowering": ["lowering/test_table.py", "lowering/test_kernels.py", "lowering/test_pipeline.py"],
    "backend": ["tpu_dynamo/test_backend.py", "tpu_dynamo/test_backward.py", "tpu_dynamo/test_dynamic_sizes.py"],
    "caches": ["tpu_dynamo/test_cache.py", "tpu_dynamo/test_autograd_cache.py", "tpu_dynamo/test_precompile.py"],
    "without a TPU": ["tpu_dynamo/test_compile_for.py"],
    "device": ["device/test_tensors.py", "device/test_training.py", "device/test_modules.py"],
    "training": ["training/test_train_step.py"],
    "OpInfo": ["opinfo/test_opinfo.py"],
}

_VERSIONS = """
import importlib.metadata as m, json, platform
names = "torch", "torch-mlir", "jax", "jaxlib", "libtpu"
print(json.dumps({"python": platform.python_version(), **{name: m.version(name) for name in names}}))
"""


def make_environment(folder: Path, python: str, torch: str, jax: str) -> Path:
    """Install a cell's versions and the checkout into a new environment; return its interpreter."""
    interpreter = shutil.which(f"python{python}")
    if interpreter is None:
        raise SystemExit(f"python{python} is not on the PATH")
    subprocess.run([interpreter, "-m", "venv", folder], check=True)
    wanted = [f"torch=={torch}.*", f"jax=={jax}.*", f"jaxlib=={jax}.*", "-e", f"{ROOT}[dev]"]
    subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "-q", *wanted], check=True)
    return folder / "bin" / "python"


def run_part(interpreter: Path, files: list[str], folder: Path) -> dict[str, int]:
    """Run test files in one process of an interpreter; return how many tests there were, failed and were skipped."""
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    command = [interpreter, "-m", "pytest", "-q", f"--junitxml={report}", *(f"tests/{file}" for file in files)]
    variables = os.environ | {"TPU_DYNAMO_CACHE_DIR": str(folder / "cache"), "TORCHINDUCTOR_CACHE_DIR": str(folder)}
    done = subprocess.run(command, cwd=ROOT, env=variables, check=False)
    if not report.exists():
        raise SystemExit(f"pytest ended with {done.returncode} and without a report: {' '.join(map(str, command))}")
    suite = next(ElementTree.parse(report).iter("testsuite")).attrib
    return {
        "tests": int(suite["tests"]),
        "failed": int(suite["failures"]) + int(suite["errors"]),
        "skipped": int(suite["skipped"]),
    }


def run_cell(interpreter: Path, parts: list[str]) -> dict[str, Any]:
    """Run the spread with an interpreter; return the cell's row."""
    told = subprocess.run([interpreter, "-c", _VERSIONS], check=True, capture_output=True, text=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        results = {part: run_part(interpreter, SPREAD[part], Path(folder)) for part in parts}
    return {"date": datetime.date.today().isoformat(), "versions": json.loads(told), "results": results}


def keep(row: dict[str, Any]) -> None:
    """Write a row into the file of what was tested, and the page from that file."""
    rows = json.loads(TESTED.read_text()) if TESTED.exists() else []
    for same in rows:
        if same["versions"] == row["versions"]:
            row = row | {"results": same["results"] | row["results"]}
    rows = [each for each in rows if combination(each["versions"]) != combination(row["versions"])]
    rows = sorted([*rows, row], key=lambda each: [int(n) for n in each["versions"]["python"].split(".")])
    TESTED.write_text(json.dumps(rows, indent=2) + "\n")
    PAGE.write_text(page(rows))


def page(rows: list[dict[str, Any]]) -> str:
    """Return docs/versions.md: the rows as a table."""
    names = [*rows[0]["versions"]]
    lines = [
        "# Versions that were tested together",
        "",
        "Written by `python -m tests.matrix`. A number is of the tests that passed, of those that ran; an empty place was"
        " not run. `tpu-dynamo doctor` says so where what is installed is none of these.",
        "",
        f"| date | {' | '.join([*names, *SPREAD])} |",
        "| --- " * (1 + len(names) + len(SPREAD)) + "|",
    ]
    for row in rows:
        counts = [_count(row["results"].get(part)) for part in SPREAD]
        lines.append(f"| {' | '.join([row['date'], *row['versions'].values(), *counts])} |")
    return "\n".join(lines) + "\n"


def _count(result: dict[str, int] | None) -> str:
    if result is None:
        return ""
    ran = result["tests"] - result["skipped"]
    return f"{ran - result['failed']} of {ran}"


def main() -> None:
    """Run the cells that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="X.Y", help="the cells of this Python alone")
    parser.add_argument("--with", dest="interpreter", type=Path, help="an interpreter with everything installed")
    parser.add_argument("--parts", nargs="+", choices=SPREAD, default=[*SPREAD])
    given = parser.parse_args()
    if given.interpreter:
        keep(run_cell(given.interpreter, given.parts))
        return
    for cell in CELLS:
        if given.only in (None, cell[0]):
            with tempfile.TemporaryDirectory() as folder:
                keep(run_cell(make_environment(Path(folder), *cell), given.parts))


if __name__ == "__main__":
    main()
