"""The wheel that is built from the sdist has all that runs, and its metadata is sound."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from .licences import PAGE
from .requirements import ROOT, lowest, project, requirements

PACKAGES = {
    "tpu_dynamo": ROOT / "tpu_dynamo",
    "tpu_dynamo_lowering": ROOT / "lowering" / "tpu_dynamo_lowering",
    "tpu_dynamo_runtime": ROOT / "runtime" / "tpu_dynamo_runtime",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    """Build the sdist, and of it the wheel, as `python -m build` does; return both."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))


def test_the_wheel_has_every_file_of_the_packages(built):
    with zipfile.ZipFile(built[1]) as wheel:
        there = set(wheel.namelist())
    listed = subprocess.run(
        ["git", "ls-files", *map(str, PACKAGES.values())], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("the tests are not in a git checkout")
    files = [ROOT / line for line in listed.stdout.splitlines()]
    named = {
        f"{name}/{file.relative_to(folder).as_posix()}"
        for name, folder in PACKAGES.items()
        for file in files
        if file.is_relative_to(folder) and file.exists() and not file.is_relative_to(ROOT / "tpu_dynamo" / "script")
    }
    assert named <= there
    assert {f"{name}/py.typed" for name in PACKAGES} <= there
    pages = {page.name for page in (ROOT / "docs" / "errors").glob("*.md")}
    assert {f"tpu_dynamo/diagnostics/pages/{page}" for page in pages} <= there
    assert "tpu_dynamo_cli.py" in there
    ours = (*(f"{name}/" for name in PACKAGES), "tpu_dynamo-")
    foreign = [name for name in there if not name.startswith(ours)]
    assert foreign == ["tpu_dynamo_cli.py"]


def test_the_wheels_metadata_is_the_projects(built):
    with zipfile.ZipFile(built[1]) as wheel:
        inside = {name.rpartition("/")[2]: wheel.read(name) for name in wheel.namelist() if ".dist-info/" in name}
    told = message_from_bytes(inside["METADATA"])
    table = project()
    assert told["Version"] == table["version"]
    assert told["License-Expression"] == "Apache-2.0"
    assert "LICENSE" in inside
    assert set(told.get_all("Provides-Extra", [])) == set(table["optional-dependencies"])
    points = inside["entry_points.txt"].decode()
    assert "tpu-dynamo = tpu_dynamo_cli:main" in points
    assert "tpu = tpu_dynamo.backend:tpu" in points


def test_the_sdist_has_no_file_that_git_ignores(built):
    with tarfile.open(built[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "PKG-INFO"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", ".hypothesis"))]


def test_an_index_would_take_both(built):
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_requirement_has_a_lower_bound_and_only_unstable_ones_an_upper():
    assert all(lowest(requirement) for requirement in requirements())
    bounded = {r.name for r in requirements() if any(s.operator in ("<", "<=", "==", "~=") for s in r.specifier)}
    assert bounded == {"torch", "torch-mlir", "jax", "jaxlib"}


def test_the_page_of_licences_names_every_requirement():
    text = PAGE.read_text(encoding="utf-8")
    assert not [r.name for r in requirements() if f"| {r.name.lower().replace('_', '-')} |" not in text]


def test_the_version_stands_in_one_place():
    version = project()["version"]
    listed = subprocess.run(
        ["git", "grep", "-lF", f'"{version}"', "--", "*.py", "*.toml"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if listed.returncode > 1:
        pytest.skip("the tests are not in a git checkout")
    assert listed.stdout.split() == ["pyproject.toml"]
    assert Requirement(f"tpu-dynamo=={version}").specifier.contains(metadata.version("tpu-dynamo"), prereleases=True)
