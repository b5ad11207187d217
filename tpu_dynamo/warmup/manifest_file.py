"""The reader of manifest files; it reports all problems of a file at once, each with its line."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .manifest import Manifest
from .toml_lines import key_lines, line_of

# Names of the forms that a value may have (shapes.py), which pydantic puts into paths; no part of a path in the file.
_TAGS = {"number", "list", "table", "tensor", "value"}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a manifest. line: from 1, None where it is about the file."""

    line: int | None
    key: str
    why: str


class ManifestError(ValueError):
    """A manifest that cannot be used; the message has each problem with its line."""

    def __init__(self, path: Path, problems: list[Problem]):
        self.path, self.problems = path, problems
        super().__init__("\n".join(_format_problem(path, problem) for problem in problems))


def read_manifest(path: Path) -> Manifest:
    """Read the manifest in a file. Raises ManifestError with every problem, also for a file that cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ManifestError(path, [Problem(None, "", f"cannot be read: {why}")]) from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"\(at line (\d+), column \d+\)", str(error))
        why = f"it is no TOML: {str(error).partition(' (at ')[0]}"
        raise ManifestError(path, [Problem(int(at[1]) if at else None, "", why)]) from error
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        lines = key_lines(text)
        raise ManifestError(path, list(_problems(error, lines))) from None


def _problems(error: ValidationError, lines: dict[tuple[str | int, ...], int]) -> Iterator[Problem]:
    for one in error.errors(include_url=False):
        path = _in_file(one["loc"], lines)
        if one["type"] == "unknown_keys":
            context: dict[str, Any] = one.get("ctx", {})
            for key in context["keys"]:
                close = difflib.get_close_matches(str(key), context["known"], n=1)
                meant = f"did you mean {close[0]!r}? " if close else ""
                known = ", ".join(name for name in context["known"])
                where = (*path, str(key))
                yield Problem(line_of(lines, where), _dotted(where), f"there is no such key; {meant}There are {known}")
        else:
            yield Problem(line_of(lines, path), _dotted(path), _why(one))


def _in_file(loc: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int]) -> tuple[str | int, ...]:
    """Return pydantic's path without the names of forms. A key with such a name stays: it has a line in the file."""
    path: tuple[str | int, ...] = ()
    for part in loc:
        is_form = part in _TAGS or (isinstance(part, str) and ("[" in part or part in ("int", "float", "str", "bool")))
        if not is_form or (*path, part) in lines:
            path = (*path, part)
    return path


def _why(error: Any) -> str:
    given = error["input"]
    if error["type"] == "missing":
        return "this key is missing"
    if error["type"] == "literal_error":
        allowed = re.findall(r"'([^']*)'|(\d+)", error["ctx"]["expected"])
        names = [text or number for text, number in allowed]
        close = difflib.get_close_matches(str(given), names, n=1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        return f"{given!r} is not allowed here{meant or '.'} Allowed: {', '.join(names)}"
    if error["msg"].startswith("Input should"):
        return f"{error['msg'].removeprefix('Input ')}, and is {given!r}"
    return str(error["msg"])


def _dotted(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _format_problem(path: Path, problem: Problem) -> str:
    place = f"{path}:{problem.line}" if problem.line else f"{path}"
    return f"{place}: {problem.key}: {problem.why}" if problem.key else f"{place}: {problem.why}"
