"""One fix of a graph break, with a pattern before and after that tests compile."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent


@dataclass(frozen=True)
class Fix:
    """One fix: for which code, messages and lines (regular expressions), what to do, and the pattern.

    before, after: programs whose function `forward` breaks, and does not.
    """

    code: str
    title: str
    text: str
    before: str
    after: str
    message: str = ""
    line: str = ""


def fix(code: str, title: str, text: str, before: str, after: str, message: str = "", line: str = "") -> Fix:
    """Make a Fix whose patterns are written indented."""
    return Fix(code, title, text, dedent(before).strip(), dedent(after).strip(), message, line)
