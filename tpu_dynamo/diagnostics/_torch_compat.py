"""The report's one door to PyTorch's private parts: the registry of graph breaks, Dynamo's counts and its limits."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

# As in torch._dynamo.exc.get_gbid_documentation_link.
_PAGES = "https://meta-pytorch.github.io/compile-graph-break-site/gb/gb{number}.html"

# The name that Dynamo gives to the function behind a break.
RESUMED = r"torch_dynamo_resume_in_(?P<function>.+)_at_(?P<line>\d+)"


@lru_cache(maxsize=1)
def break_registry() -> Mapping[str, tuple[Mapping[str, Any], ...]]:
    """Return torch's kinds of graph breaks: code -> entries with `Gb_type`, `Explanation` and `Hints`, newest first."""
    path = Path(torch.__file__).parent / "_dynamo" / "graph_break_registry.json"
    return {code: tuple(entries) for code, entries in json.loads(path.read_text(encoding="utf-8")).items()}


@dataclass(frozen=True)
class RegisteredBreak:
    """A kind of graph break as torch's registry explains it: its name, the explanation and the hints, in words."""

    gb_type: str
    explanation: str
    hints: tuple[str, ...]


def registered_break(code: str) -> RegisteredBreak | None:
    """Return what torch's registry says of a code such as `GB0170`, or None where it does not know the code.

    Each part is that of the newest entry that says it in words: some hold the source of an expression instead.
    """
    entries = break_registry().get(code)
    if not entries:
        return None
    explanations = (words_of(entry.get("Explanation", "")) for entry in entries)
    hints = (tuple(filter(None, map(words_of, entry.get("Hints", ())))) for entry in entries)
    return RegisteredBreak(entries[0]["Gb_type"], next(filter(None, explanations), ""), next(filter(None, hints), ()))


def words_of(text: str) -> str:
    """Return a text of torch's registry, or the words in its string literals where it is Python source.

    The registry is made from torch's own files: `"Tracing failed: " + reason` stands in it where a call computes a
    text. What is computed is left out; what an f-string puts in keeps its name, as in `{reason}`.
    """
    try:
        expression = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return text
    # "is not supported" parses too, as a comparison.
    is_source = isinstance(expression, ast.BinOp | ast.Call | ast.Constant | ast.JoinedStr | ast.Name)
    return _literal_words(expression).strip() if is_source else text


def _literal_words(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.FormattedValue):
        return f"{{{ast.unparse(node.value)}}}"
    if isinstance(node, ast.BinOp):
        return _literal_words(node.left) + _literal_words(node.right)
    parts = node.values if isinstance(node, ast.JoinedStr) else node.args if isinstance(node, ast.Call) else ()
    return "".join(map(_literal_words, parts))


@lru_cache(maxsize=1)
def _codes() -> Mapping[str, str]:
    return {entry["Gb_type"]: code for code, entries in break_registry().items() for entry in reversed(entries)}


def break_code(gb_type: str) -> str | None:
    """Return the code of a kind of break, as `GB0170`, or None where torch's registry has none."""
    return _codes().get(gb_type)


def break_page(code: str) -> str:
    """Return the address of torch's page about a code."""
    return _PAGES.format(number=code.removeprefix("GB"))


def torch_folder() -> str:
    """Return the folder that torch's own files are in."""
    return str(Path(torch.__file__).parent)


def recompile_limit() -> int:
    """Return the number of compiled versions of one function at which Dynamo stops compiling it."""
    return torch._dynamo.config.recompile_limit


def break_counts() -> dict[str, int]:
    """Return how often Dynamo has counted each break in this process, by the break's message."""
    counters = torch._dynamo.utils.counters
    totals: dict[str, int] = {}
    for category in ("graph_break", "unimplemented"):
        for message, count in counters[category].items():
            totals[message] = totals.get(message, 0) + count
    return totals


def position_of(error: BaseException | None) -> tuple[tuple[str, int, int | None, int | None], ...]:
    """Return the user's stack that a Dynamo exception carries, outermost frame first; empty for another exception.

    Of each frame: file, line, and the first and last column in UTF-8 bytes, counted from 0.
    """
    frames: Iterable[Any] = getattr(error, "real_stack", None) or ()
    return tuple(
        (frame.filename, frame.lineno, getattr(frame, "colno", None), getattr(frame, "end_colno", None))
        for frame in frames
    )
