"""The table of docs/ecosystem.md: what works in which version of which library, what to write, and the test of it.

    python -m tests.ecosystem.page

A test says it by its mark `shows(library, works, write)`; versions come from the record of `tests.ecosystem.record`.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from .record import recorded

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "ecosystem.md"
BEGIN, END = "<!-- table: python -m tests.ecosystem.page -->", "<!-- end of the table -->"
HEAD = "| library | works | to write | tested by |\n| --- | --- | --- | --- |\n"


@dataclass(frozen=True)
class Shown:
    """A row of the table: a library, what works in it, the line to write, and the test that shows it."""

    library: str
    works: str
    write: str
    test: str


def shown() -> list[Shown]:
    """Read the marks of this folder's tests from their sources, in the libraries' order."""
    found = []
    for path in sorted(FOLDER.glob("test_*.py")):
        for function in ast.parse(path.read_text(encoding="utf-8")).body:
            for mark in function.decorator_list if isinstance(function, ast.FunctionDef) else ():
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.shows":
                    values = [ast.literal_eval(each) for each in mark.args]
                    found.append(Shown(*values, test=f"{path.name}::{function.name}"))
    return sorted(found, key=lambda each: each.library)


def table() -> str:
    """Return the table: one row for each marked test that has passed, its library with the version of then."""
    versions = recorded()
    rows = [
        f"| {each.library} {versions[each.test]} | {each.works} | `{each.write}` | `{each.test}` |\n"
        for each in shown()
        if each.test in versions
    ]
    return HEAD + "".join(rows)


def parts() -> tuple[str, str, str]:
    """Return what stands before the page's table, the table, and what stands after it."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN + "\n")
    text, _, after = rest.partition(END)
    return before, text, after


def main() -> None:
    """Write the table into the page."""
    before, _, after = parts()
    PAGE.write_text(f"{before}{BEGIN}\n{table()}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
