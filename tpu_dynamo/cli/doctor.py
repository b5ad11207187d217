"""`tpu-dynamo doctor`: what is installed, what of it works, and what to do about the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tpu_dynamo.formatting import format_count

from .console import print_json, results, waiting
from .exit_codes import ExitCode, end
from .shared_options import CacheDir, Json, NoProgress

if TYPE_CHECKING:
    from tpu_dynamo.doctor import Check

_SIGNS = {"ok": "[green]✓[/]", "note": "[dim]–[/]", "warning": "[yellow]![/]", "error": "[red]✗[/]"}
_ATTACH = """\
For a bug report attach
  tpu-dynamo doctor --json
  tpu-dynamo report --redact --html report.html -- python train.py
  the folder that the error names"""


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Compile nothing.")] = False,
    cache_dir: CacheDir = None,
    no_progress: NoProgress = False,
    json: Json = False,
) -> None:
    """Look at versions, names, the cache, the environment and the platforms, and compile a small model.

    Exits with 3 when something that must work does not, and with 1 when there are other findings; each says what to do.
    """
    from tpu_dynamo.doctor import examine

    found = []
    with waiting("looking", not no_progress) as tell:
        for check in examine(cache_dir, quick=quick):
            found.append(check)
            tell(f"looked at {check.name}" if quick else f"looked at {check.name}; a small model is compiled too")
    counts = {status: sum(check.status == status for check in found) for status in _SIGNS}
    if json:
        print_json({"checks": [check.as_dict() for check in found], "counts": counts})
    else:
        _show(found, counts)
    if counts["error"]:
        end(ExitCode.ENVIRONMENT)
    if counts["warning"]:
        end(ExitCode.FINDINGS)


def _show(found: Sequence[Check], counts: dict[str, int]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from tpu_dynamo.doctor import GROUPS

    console = results()
    width = max(len(check.name) for check in found)
    for group in GROUPS:
        checks = [check for check in found if check.group == group]
        if not checks:
            continue
        console.print(f"[bold]{group}[/]")
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True, min_width=width)
        grid.add_column(overflow="fold")
        for check in checks:
            grid.add_row(f"  {_SIGNS[check.status]}", escape(check.name), escape(check.found))
            if check.advice and check.status in ("warning", "error"):
                grid.add_row("", "", f"[bold]try:[/] {escape(check.advice)}")
        console.print(grid)
    problems = counts["warning"] + counts["error"]
    console.print()
    if problems:
        must = f", {counts['error']} of which must be mended" if counts["error"] else ""
        console.print(f"{format_count(problems, 'finding')}{must}.")
    else:
        console.print("Everything that must work does.")
    console.print(_ATTACH, markup=False)
