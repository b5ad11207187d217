"""The versions of Python, torch and jax that were tested together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

# Written by tests/matrix.py: a row for each environment in which a spread of the suite ran.
TESTED = Path(__file__).with_name("tested.json")


def combination(versions: Mapping[str, str]) -> tuple[str, ...]:
    """Return the minor releases of Python, torch and jax among `versions`: what breaks comes with those."""
    return tuple(".".join(versions[name].split(".")[:2]) for name in ("python", "torch", "jax"))


@cache
def tested() -> dict[tuple[str, ...], int]:
    """Return the combinations that were tested, each with how many tests of the spread failed."""
    rows: list[dict[str, Any]] = json.loads(TESTED.read_text())
    return {combination(row["versions"]): sum(each["failed"] for each in row["results"].values()) for row in rows}
