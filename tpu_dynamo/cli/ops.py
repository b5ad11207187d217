"""`tpu-dynamo ops`: what is lowered, and how."""

from __future__ import annotations

from typing import Annotated

import typer

from tpu_dynamo.formatting import format_count

from .console import cut, print_json, results, say, table, waiting
from .exit_codes import ExitCode, end
from .shared_options import Json, NoProgress
from .user_code import call_factory, load

_WHY = "WHAT IT GIVES, OR WHY THIS WAY"


def ops(
    factory: Annotated[
        str | None,
        typer.Argument(metavar="MODULE:FACTORY", help="A function that gives (model, args) or (model, args, kwargs)."),
    ] = None,
    training: Annotated[bool, typer.Option("--training", help="Include the backward pass.")] = False,
    json: Json = False,
    no_progress: NoProgress = False,
) -> None:
    """List the operators that are lowered, and how; with MODULE:FACTORY, those of your model, without running it.

    Exits with 1 when the model has operators that cannot be lowered.
    """
    with waiting("importing torch", not no_progress):
        from tpu_dynamo.ahead_of_time import coverage
    if factory is None:
        _show_all(coverage.operator_rows(), json)
        return
    with waiting(f"tracing {factory}", not no_progress):
        found = coverage.cover(*call_factory(load(factory)), training=training)
    rows = [(name, way, count) for (name, way), count in sorted(found.operators.items())]
    if json:
        print_json(
            {
                "graphs": found.graphs,
                "operators": [{"operator": name, "lowered_by": way, "calls": calls} for name, way, calls in rows],
                "unsupported": [problem.as_dict() for problem in found.unsupported],
            }
        )
    else:
        shown = table("CALLS", "LOWERED BY", "OPERATOR", right=("CALLS",), flexible="OPERATOR")
        for name, way, calls in rows:
            shown.add_row(str(calls), way, cut(name))
        results().print(shown)
        for problem in found.unsupported:
            typer.echo(f"\n{problem}")
    lowered = sum(found.operators.values())
    unsupported = f"{len(found.unsupported)} that cannot be lowered"
    say(f"{format_count(found.graphs, 'graph')}, {format_count(lowered, 'call')}, {unsupported}")
    if found.unsupported:
        end(ExitCode.FINDINGS)


def _show_all(rows: list[tuple[str, str, str]], json: bool) -> None:
    if json:
        print_json([{"operator": name, "lowered_by": way, "reason": reason} for name, way, reason in rows])
    else:
        shown = table("OPERATOR", "LOWERED BY", _WHY, flexible=_WHY)
        for name, way, why in rows:
            shown.add_row(name, way, cut(why))
        results().print(shown)
    say(format_count(len(rows), "operator"))
