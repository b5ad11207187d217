"""The command line: `tpu-dynamo`."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

app = typer.Typer(name="tpu-dynamo", help='Tools around torch.compile(model, backend="tpu").', no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tpu-dynamo {metadata.version('tpu-dynamo')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    """Tools around torch.compile(model, backend="tpu")."""


@app.command()
def ops() -> None:
    """List every operator that is lowered, how, and why that way."""
    from rich.console import Console
    from rich.table import Table

    from .coverage import operator_rows

    table = Table("operator", "lowered by", "how", title="ATen operators")
    rows = operator_rows()
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print(f"{len(rows)} operators")


def main() -> None:
    """Run the command line."""
    app()
