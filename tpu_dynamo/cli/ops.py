"""`tpu-dynamo ops`: what is lowered, and how."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from .ending import FINDINGS, refuse


def ops(
    factory: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODULE:FACTORY]", help="A function that gives (model, args) or (model, args, kwargs)."
        ),
    ] = None,
    training: Annotated[bool, typer.Option("--training", help="Include the backward pass.")] = False,
) -> None:
    """List the operators that are lowered, and how; with MODULE:FACTORY, those of your model, without running it.

    Exits with 1 when the model has operators that cannot be lowered.
    """
    from tpu_dynamo import coverage

    if factory is None:
        rows = coverage.operator_rows()
        _print_table(("operator", "lowered by", "what it gives, or why this way"), rows)
        typer.echo(f"{len(rows)} operators", err=True)
    else:
        found = coverage.cover(*_made(_load(factory)), training=training)
        rows = [(name, way, str(count)) for (name, way), count in sorted(found.operators.items())]
        _print_table(("operator", "lowered by", "calls"), rows)
        for problem in found.unsupported:
            typer.echo(f"\n{problem}")
        lowered = sum(found.operators.values())
        typer.echo(f"{found.graphs} graphs, {lowered} calls, {len(found.unsupported)} that cannot be lowered", err=True)
        if found.unsupported:
            raise typer.Exit(FINDINGS)


def _load(path: str) -> Callable[[], Any]:
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        refuse(f"{path!r} is not of the form MODULE:FACTORY, as in models:make_bert")
    sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        refuse(f"no module named {error.name!r}, which {path!r} needs; it is looked for here and in the environment")
    except AttributeError:
        refuse(f"module {module!r} has no {name!r}")


def _made(factory: Callable[[], Any]) -> tuple[Any, ...]:
    made = factory()
    if not (isinstance(made, tuple) and 2 <= len(made) <= 3 and callable(made[0])):
        refuse("the factory must return (model, args) or (model, args, kwargs)")
    return made


def _print_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*head)
    for row in rows:
        table.add_row(*row)
    # A pipe has no width of its own: lines are as long as they need to be.
    Console(width=None if sys.stdout.isatty() else 200).print(table)
