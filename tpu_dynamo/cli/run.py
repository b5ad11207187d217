"""`tpu-dynamo run -- CMD`: a command of the user's own, and what it compiles."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from tpu_dynamo.formatting import format_count

from .console import print_json, say
from .exit_codes import ExitCode, refuse
from .report import COMMAND
from .shared_options import CacheDir, Json


def run(
    ctx: typer.Context,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="For manifest.toml, report.md and report.json.")
    ] = Path("tpu-dynamo-run"),
    cache_dir: CacheDir = None,
    json: Json = False,
) -> None:
    """Run a command unchanged, as `run -- python train.py`, and record which programs it looks up and makes.

    Exits with the command's own code, 128 and the signal's number where one ended it. What is recorded is the cache's
    part of all its processes that use the backend; it costs a line in a file for each program.
    """
    from tpu_dynamo.warmup.commands import run_recorded
    from tpu_dynamo.warmup.recorded_command import as_data, write

    command = ctx.meta.get(COMMAND)
    if not command:
        refuse("give a command behind --, as in: tpu-dynamo run -- python train.py")
    environment = {**os.environ, **({"TPU_DYNAMO_CACHE_DIR": str(cache_dir.absolute())} if cache_dir else {})}
    started = time.monotonic()
    try:
        status, found = run_recorded(command, environment)
    except OSError as error:
        refuse(f"{command[0]}: {error.strerror}")
    status = status if status >= 0 else 128 - status
    data = as_data(command, status, found, time.monotonic() - started)
    try:
        files = write(output, command, data, found)
    except OSError as error:
        refuse(f"the record cannot be written to {output}: {error.strerror}", ExitCode.ENVIRONMENT)
    if json:
        print_json(data)
    graphs = format_count(len(found.graphs), "program")
    say(
        f"tpu-dynamo: {graphs} of graphs, {found.lowerings} lowered, {found.xla_compiles} compiled; "
        f"wrote {', '.join(map(str, files))}"
        if found.graphs
        else f"tpu-dynamo: the command compiled no graph with this backend; wrote {output}"
    )
    raise typer.Exit(status)
