"""How a verb ends: the exit codes, and a refusal."""

from __future__ import annotations

from typing import NoReturn

import typer

FINDINGS, USAGE = 1, 2


def refuse(why: str) -> NoReturn:
    """Say why the command line cannot be carried out, and exit with 2."""
    typer.echo(f"tpu-dynamo: {why}", err=True)
    raise typer.Exit(USAGE)
