"""MLIR's diagnostics in words: what was said, about which operation, at which of the user's lines."""

from __future__ import annotations

import re
from typing import Any

from .source_lines import SourceLine, is_own

_PLACE = re.compile(r'"([^"]+\.py)":(\d+)')


def explain(error: Any) -> tuple[str, SourceLine | None]:
    """Return an MLIRError's message without its locations, and the innermost of the user's lines among these.

    error: torch-mlir's or jaxlib's MLIRError; both carry `error_diagnostics`.
    """
    said: list[str] = []
    line: SourceLine | None = None
    for diagnostic in error.error_diagnostics:
        said.append(diagnostic.message)
        said += [note.message for note in diagnostic.notes if note.message != "see current operation"]
        line = line or _line(str(diagnostic.location))
    return "\n    ".join(said) or str(error), line


def _line(location: str) -> SourceLine | None:
    for file, number in _PLACE.findall(location):
        if is_own(file):
            return SourceLine(file, int(number))
    return None
