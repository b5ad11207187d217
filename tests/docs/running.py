"""Runs the blocks of code of the papers, page by page and in their order; `python -m tests.docs.running` lists them.

A page's Python blocks share one namespace, in which torch and tpu_dynamo are imported; a block that begins with a file's
name, `# train.py`, is written to that file instead, as is a diff. Shell blocks run in the page's folder: of consoles the
lines behind `$ `, whose output must have the lines that are shown below them. What a page takes for granted, a model or a
file, is made by page_setup/PAGE.py, once more before a block with the comment `<!-- anew -->`. A block that is not run says
why, in a comment before it:

    <!-- not run: it needs a bucket -->
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import tpu_dynamo

from .pages import PRESENT, Block, blocks, name_of

SETUP = Path(__file__).with_name("page_setup")
ANEW = "<!-- anew -->"
SHELLS = ("bash", "console", "sh")
_NOT_RUN = re.compile(r"<!-- not run: ((?:(?!-->).)+?) -->\s*(?:<!-- \w+ -->\s*)?\Z", re.DOTALL)
_FILE = re.compile(r"\A# (\S+\.\w+)\n")
_DIFF = re.compile(r"\A--- \S+\n\+\+\+ (\S+)\.\w+\n")


def why_not(page: Path, block: Block) -> str:
    """Return the reason that stands before a block that is not run, else nothing."""
    found = _NOT_RUN.search(_before(page, block))
    return " ".join(found[1].split()) if found else ""


def runnable(page: Path) -> list[Block]:
    """Return the page's blocks that are run, or are written to files that are."""
    found = [block for block in blocks(page, "python", "toml", "diff", *SHELLS) if not why_not(page, block)]
    return [block for block in found if block.language in ("python", *SHELLS) or _written_to(block)]


def run(page: Path, folder: Path) -> None:
    """Run a page's blocks in a folder, which is the current one. Raises what a block raises, at the page's line."""
    namespace: dict[str, Any] = {"__name__": page.stem, "torch": torch, "tpu_dynamo": tpu_dynamo}
    _set_up(page, namespace)
    for block in runnable(page):
        if _before(page, block).endswith(ANEW):
            _set_up(page, namespace)
        file = _written_to(block)
        if file:
            Path(folder, file).parent.mkdir(parents=True, exist_ok=True)
            Path(folder, file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            _execute(page, block.text, block.line, namespace)
        else:
            for command, shown in _commands(block):
                _shell(f"{name_of(page)}:{block.line}", command, shown, folder)


def _set_up(page: Path, namespace: dict[str, Any]) -> None:
    setup = SETUP / f"{page.stem}.py"
    if setup.exists():
        _execute(setup, setup.read_text(encoding="utf-8"), 0, namespace)


def _before(page: Path, block: Block) -> str:
    """Return the page's text before a block."""
    return "\n".join(page.read_text(encoding="utf-8").splitlines()[: block.line - 1]).rstrip()


def _written_to(block: Block) -> str:
    """Return the file that a block is written to, if it names one."""
    if block.language == "diff":
        found = _DIFF.match(block.text)
        return f"{found[1]}.diff" if found else ""
    found = _FILE.match(block.text) if block.language in ("python", "toml") else None
    return found[1] if found else ""


def _execute(file: Path, text: str, line: int, namespace: dict[str, Any]) -> None:
    exec(compile("\n" * line + text, str(file), "exec"), namespace)


def _commands(block: Block) -> list[tuple[str, str]]:
    """Return the commands of a block, each with what is shown below it."""
    if block.language != "console":
        return [(block.text, "")]
    parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]
    return [(command, shown) for command, _, shown in (part.partition("\n") for part in parts)]


def _shell(place: str, command: str, shown: str, folder: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    told = f"{place}: {command}\n{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, f"{told}\nended with {done.returncode}"
    assert all(line in done.stdout for line in shown.splitlines()), told


def main() -> None:
    """Print how many blocks of each page are run, and each that is not, with the reason."""
    for page in PRESENT:
        found = [(block, why_not(page, block)) for block in blocks(page, "python", *SHELLS)]
        if found:
            print(f"{name_of(page)}: {sum(not why for _, why in found)} of {len(found)} run")
        for block, why in found:
            if why:
                print(f"    line {block.line}, {block.language}: {why}")


if __name__ == "__main__":
    main()
