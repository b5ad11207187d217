"""Versions of the installed packages, compared with those that tpu-dynamo requires."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from tpu_dynamo.formatting import format_path

from .check import Check
from .combinations import combination, tested

GROUP = "Versions"
_OURS = "tpu-dynamo"
_ALWAYS_LISTED = ("torch", "torch-mlir", "jax", "jaxlib", "libtpu", "numpy")
_LIBTPU = 'it compiles for TPUs and drives them: pip install "tpu-dynamo[tpu]" (Linux, x86-64)'


def checks() -> Iterator[Check]:
    """Check Python, tpu-dynamo, and the packages that it requires."""
    here = f"{platform.python_implementation()} {platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Check(
        GROUP,
        "python",
        "ok",
        here,
        facts={"version": platform.python_version(), "executable": format_path(Path(sys.executable))},
    )
    own = _version(_OURS)
    if own is None:
        advice = "pip install tpu-dynamo; of a checkout: pip install -e ."
        yield Check(GROUP, _OURS, "error", "it is imported from a folder and not installed", advice)
    else:
        yield Check(GROUP, _OURS, "ok", own, facts={"version": own})
    wanted = {found.name: found for found in _requirements() if found.marker is None or found.marker.evaluate()}
    for name in (*_ALWAYS_LISTED, *(name for name in wanted if name not in _ALWAYS_LISTED)):
        yield from _check(name, wanted.get(name))
    yield from _check_together()


def _check_together() -> Iterator[Check]:
    """Name a combination of Python, torch and jax that nobody tested, or in which tests failed."""
    versions = {"python": platform.python_version(), "torch": _version("torch"), "jax": _version("jax")}
    known = {name: version for name, version in versions.items() if version is not None}
    if len(known) < len(versions):
        return
    here = combination(known)
    words = "Python {}, torch {} and jax {}".format(*here)
    failed = tested().get(here)
    if failed is None:
        others = "; ".join("Python {}, torch {}, jax {}".format(*each) for each in tested())
        yield Check(GROUP, "together", "warning", f"{words} were never tested together", f"use one of {others}", known)
    elif failed:
        yield Check(GROUP, "together", "note", f"with {words}, {failed} tests failed (docs/versions.md)", facts=known)


def _check(name: str, requirement: Requirement | None) -> Iterator[Check]:
    version = _version(name)
    facts = {"version": version, "wanted": str(requirement.specifier) if requirement else None}
    if version is None and requirement is None:
        yield Check(GROUP, name, "note", "not installed", _LIBTPU if name == "libtpu" else None, facts)
    elif version is None:
        yield Check(GROUP, name, "error", "not installed", f"pip install '{requirement}'", facts)
    elif requirement is not None and not requirement.specifier.contains(version, prereleases=True):
        found = f"{version}, and tpu-dynamo needs {requirement.specifier}"
        yield Check(GROUP, name, "error", found, f"pip install '{requirement}'", facts)
    elif name in _ALWAYS_LISTED:
        yield Check(GROUP, name, "ok", version, facts=facts)


def _requirements() -> list[Requirement]:
    try:
        found = [Requirement(text) for text in metadata.requires(_OURS) or ()]
    except metadata.PackageNotFoundError:
        return []
    # What belongs to an extra has a marker that names it.
    return [requirement for requirement in found if "extra" not in str(requirement.marker or "")]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
