"""Run a spread of the suite with each Python, torch and jax of a list, and write what came of it.

    python -m tests.matrix                      # every cell: its environment is made, run in, and removed
    python -m tests.matrix --only 3.12          # the cells of one Python
    python -m tests.matrix --with PYTHON        # in an environment that exists, by its interpreter
    python -m tests.matrix --parts zoo --zoo models.py

A cell needs `pythonX.Y` on the PATH, some gigabytes for torch, and half an hour. Its row takes the place of that of the
same minor releases in `tpu_dynamo/doctor/tested.json`, from which docs/versions.md is written and the doctor knows what
was tested together; it is written after each part, and parts that were not run again stay as they were if the versions
are the same. A zoo is a script that compiles models forward and compares them with eager: `models.py --compile tpu --out
FILE` writes, by model, {"compile": {"graphs": of the backend, "rel_err": ...}}.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tpu_dynamo.doctor.combinations import TESTED, combination

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "versions.md"

# Python, torch and jax: the oldest that we take and the newest, and for the Python between them what most people have.
CELLS = [("3.11", "2.13", "0.10.2"), ("3.12", "2.14", "0.12"), ("3.13", "2.15", "0.12")]

# What breaks with a release, by what it tests: arguments of pytest.
SPREAD = {
    "lowering": ["tests/lowering/test_table.py", "tests/lowering/test_kernels.py", "tests/lowering/test_pipeline.py"],
    "backend": [
        "tests/tpu_dynamo/test_backend.py",
        "tests/tpu_dynamo/test_backward.py",
        "tests/tpu_dynamo/test_dynamic_sizes.py",
    ],
    "caches": [
        "tests/tpu_dynamo/test_cache.py",
        "tests/tpu_dynamo/test_autograd_cache.py",
        "tests/tpu_dynamo/test_precompile.py",
    ],
    "without a TPU": ["tests/tpu_dynamo/test_compile_for.py"],
    "device": ["tests/device"],
    "training": ["tests/training/test_train_step.py"],
    "OpInfo": ["tests/opinfo/test_opinfo.py", "--every-case", "-k", "test_first_sample and float32"],
}
ZOO = "zoo"

# A process that compiles thousands of programs holds them all, so OpInfo is divided among some, one after another.
SHARES = {"OpInfo": 6}

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


def run_part(interpreter: Path, part: str, folder: Path) -> Iterator[dict[str, int]]:
    """Run a part of the spread with an interpreter; yield how many tests there were, failed and were skipped so far."""
    found: Counter[str] = Counter()
    shares = SHARES.get(part, 1)
    for i in range(shares):
        found.update(run_tests(interpreter, SPREAD[part], folder, {"OPINFO_SHARD": f"{i}/{shares}"}))
        yield dict(found)


def run_tests(interpreter: Path, arguments: list[str], folder: Path, variables: dict[str, str]) -> dict[str, int]:
    """Run tests in one process, whose caches are in a folder; return their counts as `run_part` does."""
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    command = [interpreter, "-m", "pytest", "-q", f"--junitxml={report}", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment(folder) | variables, check=False)
    if not report.exists():
        raise SystemExit(f"pytest ended with {done.returncode} and without a report: {' '.join(map(str, command))}")
    suite = next(ElementTree.parse(report).iter("testsuite")).attrib
    return {
        "tests": int(suite["tests"]),
        "failed": int(suite["failures"]) + int(suite["errors"]),
        "skipped": int(suite["skipped"]),
    }


def run_zoo(interpreter: Path, script: Path, folder: Path) -> dict[str, int]:
    """Compile a zoo's models forward with an interpreter; return their counts as `run_part` does.

    A model of which Dynamo itself captures nothing, such as nn.LSTM, counts as skipped.
    """
    found = folder / "zoo.json"
    command = [interpreter, "-W", "ignore", script, "--compile", "tpu", "--out", found]
    subprocess.run(command, env=environment(folder), check=True)
    compiled = [model.get("compile") for model in json.loads(found.read_text()).values()]
    outside = [each for each in compiled if each and not each["graphs"]]
    passed = [each for each in compiled if each and each["graphs"] and each["rel_err"] < 1e-3]
    failed = len(compiled) - len(outside) - len(passed)
    return {"tests": len(compiled), "failed": failed, "skipped": len(outside)}


def environment(folder: Path) -> dict[str, str]:
    """Return the variables of this process, with caches in a folder."""
    return os.environ | {"TPU_DYNAMO_CACHE_DIR": str(folder / "cache"), "TORCHINDUCTOR_CACHE_DIR": str(folder)}


def run_cell(interpreter: Path, parts: list[str], zoo: Path | None) -> None:
    """Run parts of the spread with an interpreter, and keep the result of each."""
    told = subprocess.run([interpreter, "-c", _VERSIONS], check=True, capture_output=True, text=True).stdout
    row = {"date": datetime.date.today().isoformat(), "versions": json.loads(told)}
    for part in parts:
        with tempfile.TemporaryDirectory() as folder:
            of_zoo = zoo and part == ZOO
            counts = [run_zoo(interpreter, zoo, Path(folder))] if of_zoo else run_part(interpreter, part, Path(folder))
            for found in counts:
                keep(row | {"results": {part: found}})


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
        f"| date | {' | '.join([*names, *SPREAD, ZOO])} |",
        "| --- " * (1 + len(names) + len(SPREAD) + 1) + "|",
    ]
    for row in rows:
        counts = [_count(row["results"].get(part)) for part in (*SPREAD, ZOO)]
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
    parser.add_argument("--zoo", type=Path, help="a script of models, for the part of this name")
    parser.add_argument("--parts", nargs="+", choices=[*SPREAD, ZOO])
    given = parser.parse_args()
    parts = given.parts or [*SPREAD, *([ZOO] if given.zoo else [])]
    if ZOO in parts and given.zoo is None:
        parser.error("the part `zoo` needs --zoo SCRIPT")
    if given.interpreter:
        run_cell(given.interpreter, parts, given.zoo)
        return
    for cell in CELLS:
        if given.only in (None, cell[0]):
            with tempfile.TemporaryDirectory() as folder:
                run_cell(make_environment(Path(folder), *cell), parts, given.zoo)


if __name__ == "__main__":
    main()
