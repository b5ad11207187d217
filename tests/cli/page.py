"""Writes docs/cli.md from the command line itself: every verb with its options, and screens of those that have one.

    python -m tests.cli.page

A verb's screen is tests/cli/screens/VERB.txt, with `-` between words (`cache-ls.txt`); tests/cli/screens.py takes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from tpu_dynamo.cli import app
from tpu_dynamo.cli.exit_codes import ExitCode

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
SCREENS = Path(__file__).with_name("screens")
_PROGRAM = "tpu-dynamo"

_SCREEN = "<!-- not run: a screen, taken by tests/cli/screens.py -->"
_HEAD = """\
# The command line

`tpu-dynamo VERB`, or `python -m tpu_dynamo.cli VERB`, which begins slower since it imports torch. This page is written
from the command line itself (`python -m tests.cli.page`); each verb tells the same under `--help`.

* Results go to stdout; progress, and what is told besides, to stderr. `--json` prints the result as one JSON document.
* Progress is shown on a terminal alone, and not with `--no-progress`. Where the output is no terminal lines are as long
  as they need to be. `NO_COLOR=1` leaves out colours.
* Verbs that remove something ask before; `--yes` says so beforehand, and is needed where there is no terminal.
  `--dry-run` says what would be done.
* `tpu-dynamo --install-completion` makes your shell complete verbs and options.
* An error of yours is one message. An error of ours leaves its traceback in a file that the message names; with
  `tpu-dynamo --debug VERB` it is shown, and everything is logged.
"""


def page() -> str:
    """The page as it should be."""
    root: Any = typer.main.get_command(app)
    verbs = list(_verbs(root, []))
    parts = [_HEAD, _listed(verbs), _exit_codes(), *(_section(words, command) for words, command in verbs)]
    return "\n".join(parts)


def _verbs(command: Any, words: list[str]) -> Iterator[tuple[list[str], Any]]:
    """The verbs below a command, in the order of `--help`, those of groups included."""
    for name, below in command.commands.items():
        if hasattr(below, "commands"):
            yield from _verbs(below, [*words, name])
        elif not below.hidden:
            yield [*words, name], below


def _listed(verbs: list[tuple[list[str], Any]]) -> str:
    rows = [
        f"| [`{' '.join(words)}`](#{_anchor(words)}) | {_cell(_first_line(command.help))} |" for words, command in verbs
    ]
    return "\n".join(["| verb | |", "| --- | --- |", *rows, ""])


def _exit_codes() -> str:
    rows = [f"| {int(code)} | {code.meaning} |" for code in ExitCode]
    return "\n".join(["## Exit codes", "", "| code | |", "| --- | --- |", *rows, ""])


def _section(words: list[str], command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden and p.name != "help"]
    usage = " ".join([_PROGRAM, *words, *(["[OPTIONS]"] if options else []), *map(_argument, arguments)])
    parts = [f"## `{' '.join(words)}`", "", command.help.strip(), "", "```", usage, "```", ""]
    rows = [(_argument(p).strip("[]."), p.help) for p in arguments] + [(_option(p), p.help) for p in options]
    if rows:
        parts += ["| | |", "| --- | --- |", *(f"| `{_cell(name)}` | {_cell(text or '')} |" for name, text in rows), ""]
    screen = SCREENS / f"{'-'.join(words)}.txt"
    if screen.exists():
        parts += [_SCREEN, "```console", screen.read_text(encoding="utf-8").rstrip(), "```", ""]
    return "\n".join(parts)


def _argument(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    shown = name if argument.required else f"[{name}]"
    return f"{shown}..." if argument.nargs == -1 else shown


def _option(option: Any) -> str:
    names = ", ".join(option.opts)
    if option.secondary_opts:
        names += f" / {', '.join(option.secondary_opts)}"
    return names if option.is_flag else f"{names} {option.metavar or option.name.upper()}"


def _anchor(words: list[str]) -> str:
    return "-".join(words)


def _first_line(text: str) -> str:
    return text.strip().partition("\n\n")[0].replace("\n", " ")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
