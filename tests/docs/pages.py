"""The project's papers, read for what can be checked in them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
# The history names what there was.
PRESENT = [page for page in PAGES if page.name != "CHANGELOG.md"]

# Also one that belongs to an item of a list, and is indented as that is.
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A block of code in a page: its language, its text and the line that it begins on."""

    language: str
    text: str
    line: int


def name_of(page: Path) -> str:
    """Return a page's path within the project, for the names of tests."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return the page's blocks of code in these languages."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(match["language"], textwrap.dedent(match["text"]), text[: match.start()].count("\n") + 1)
        for match in _BLOCK.finditer(text)
    ]
    return [block for block in found if block.language in languages]


def prose(page: Path) -> str:
    """Return the page's text without its blocks of code."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def inline_code(page: Path) -> list[str]:
    """Return what stands between backticks in the page's prose."""
    return _CODE.findall(prose(page))


def links(page: Path) -> list[str]:
    """Return the targets of the page's links."""
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """Return the anchors of the page's headings, as GitHub makes them, and of the names that the site documents."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    names = re.findall(r"^::: (\S+)$", prose(page), re.MULTILINE)
    return {*names, *(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)}


def commands(page: Path) -> list[str]:
    """Return the shell commands in the page, of blocks and of prose, without comments and continuations."""
    lines = []
    for block in blocks(page, "bash", "console", "sh"):
        lines += re.sub(r"\\\n\s*", " ", block.text).splitlines()
    lines += [code for code in inline_code(page) if code.startswith(("tpu-dynamo ", "python -m "))]
    return [re.sub(r"\s+#.*$", "", line).strip() for line in lines]
