"""`tpu-dynamo profile`: where the time of a command goes, or a saved profile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import print_json, results, say
from .exit_codes import ExitCode, refuse
from .report import COMMAND
from .shared_options import Json

if TYPE_CHECKING:
    from tpu_dynamo.profiling.model import Profile


def profile(
    ctx: typer.Context,
    source: Annotated[
        Path | None, typer.Argument(metavar="PROFILE", help="A profile, a file .json, that was written before.")
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="For profile.html, .json, .trace.json and xprof's trace."),
    ] = Path("tpu-dynamo-profile"),
    skip: Annotated[
        int,
        typer.Option("--skip", metavar="N", min=0, help="Begin once a graph has run so often: it is compiled then."),
    ] = 2,
    steps: Annotated[
        int, typer.Option("--steps", metavar="N", min=1, help="End once a graph has run so often from then on.")
    ] = 20,
    lines: Annotated[int, typer.Option("--lines", metavar="N", min=1, help="How many source lines to show.")] = 12,
    json: Json = False,
) -> None:
    """Show where the time goes, by line, graph and step: of `profile -- python train.py`, or of a saved profile.

    The command runs unchanged; of each of its processes a few steps are recorded. Exits with the command's own code,
    128 and the signal's number where one ended it.
    """
    command = ctx.meta.get(COMMAND)
    if bool(command) == (source is not None):
        refuse("give either a saved profile, or a command behind --, as in: tpu-dynamo profile -- python train.py")
    if not command:
        _show(_read(source or Path()), lines, json)
        return
    from tpu_dynamo.profiling.asked import Asked
    from tpu_dynamo.profiling.command import run_profiled, write_all

    try:
        status, found = run_profiled(command, os.environ, Asked(skip, steps))
    except OSError as error:
        refuse(f"{command[0]}: {error.strerror}")
    status = status if status >= 0 else 128 - status
    if not found:
        say(f"tpu-dynamo: no graph ran more than {skip} times, so nothing was recorded; try --skip 0")
        raise typer.Exit(status)
    try:
        files = write_all(output, found)
    except OSError as error:
        refuse(f"the profile cannot be written to {output}: {error.strerror}", ExitCode.ENVIRONMENT)
    _show(found[0].profile, lines, json)
    if len(found) > 1:
        say(f"tpu-dynamo: shown is the busiest of {len(found)} processes")
    say(f"tpu-dynamo: wrote {', '.join(map(str, files))}")
    raise typer.Exit(status)


def _read(path: Path) -> Profile:
    from tpu_dynamo.profiling.files import Unreadable, read_profile

    try:
        return read_profile(path)
    except Unreadable as error:
        refuse(str(error))


def _show(found: Profile, lines: int, json: bool) -> None:
    if json:
        print_json(found.as_dict())
        return
    from tpu_dynamo.profiling.views.terminal import show

    console = results()
    if not console.is_terminal:
        console.width = 140
    show(found, console, lines)
