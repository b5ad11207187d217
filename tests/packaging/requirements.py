"""The requirements of the project, read from pyproject.toml.

python -m tests.packaging.requirements > lowest.txt    # constraints for pip: the oldest release of each that we take
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
# What is installed beside torch to run on TPUs, and with shared caches.
RUN = ("tpu", "remote")


def project() -> dict[str, Any]:
    """Return the table `project` of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements() -> list[Requirement]:
    """Return what the package and its extras for running need."""
    table = project()
    return [
        Requirement(r) for r in (*table["dependencies"], *(r for x in RUN for r in table["optional-dependencies"][x]))
    ]


def lowest(requirement: Requirement) -> str:
    """Return the oldest release that a requirement takes, as MAJOR.MINOR.PATCH. Raises LookupError if it has no bound."""
    bounds = [s.version for s in requirement.specifier if s.operator in (">=", "==", "~=")]
    if not bounds:
        raise LookupError(f"{requirement} has no lower bound")
    numbers = bounds[0].split(".")
    dated = len(numbers) == 1 and len(numbers[0]) == 8
    return ".".join(numbers if dated else [*numbers, "0", "0"][: max(3, len(numbers))])


if __name__ == "__main__":
    print("\n".join(f"{r.name}=={lowest(r)}" for r in requirements()))
