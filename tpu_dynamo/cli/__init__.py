"""The command line: `tpu-dynamo`, one file for each verb; what a verb needs is imported when it runs."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from .explain import explain
from .ops import ops
from .report import AfterDashes, report

app = typer.Typer(name="tpu-dynamo", help='Tools around torch.compile(model, backend="tpu").', no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tpu-dynamo {metadata.version('tpu-dynamo')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Tools around torch.compile(model, backend="tpu")."""


app.command()(ops)
app.command(cls=AfterDashes)(report)
app.command()(explain)


def main() -> None:
    """Run the command line."""
    app()
