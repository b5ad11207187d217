"""Docstrings say what a function does: they begin with a verb, and with no word that makes a riddle of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from .pages import ROOT

Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module

# A good verb that is missing belongs here.
VERBS = frozenset((Path(__file__).parent / "verbs.txt").read_text(encoding="utf-8").split())
RIDDLES = frozenset(
    ["what", "whether", "how", "those", "as", "where", "which", "who", "whose", "that", "why", "when", "if"]
)
SOURCES = sorted(p for top in ("tpu_dynamo", "lowering", "runtime") for p in ROOT.glob(f"{top}/**/*.py"))
TESTS = sorted(p for top in ("tests", "examples") for p in ROOT.glob(f"{top}/**/*.py"))


def docstrings(path: Path) -> Iterator[tuple[Documented, str]]:
    """Yield what is documented in a file, with the first line of each docstring."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Documented) and (text := ast.get_docstring(node)):
            yield node, text.splitlines()[0]


def first_word(line: str) -> str:
    """Return the first word of a docstring, in lower case and without marks."""
    return line.split()[0].strip(".,:;`'\"()").lower()


def is_function(node: Documented) -> bool:
    """Return True for functions and methods other than properties, which are named by what they are."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name == "__init__":
        return False
    return not any("property" in ast.unparse(decorator) for decorator in node.decorator_list)


def place(path: Path, node: Documented) -> str:
    """Return a docstring's place, as `tests/conftest.py:12`."""
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


@pytest.mark.parametrize("files", [SOURCES, TESTS], ids=["sources", "tests"])
def test_no_docstring_begins_as_a_riddle(files):
    found = [
        f"{place(path, node)}: {line}"
        for path in files
        for node, line in docstrings(path)
        if first_word(line) in RIDDLES or line.startswith("The same")
    ]
    assert not found


def test_docstrings_of_functions_begin_with_a_verb():
    found = [
        f"{place(path, node)}: {line}"
        for path in SOURCES
        for node, line in docstrings(path)
        if is_function(node) and first_word(line) not in VERBS
    ]
    assert not found
