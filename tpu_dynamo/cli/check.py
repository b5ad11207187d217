"""`tpu-dynamo check`: whether a model's results are those of eager operators, and which line is at fault if not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import print_json, results, say, table, waiting
from .exit_codes import ExitCode, end, refuse
from .factory_graphs import Factory, Optimizer
from .shared_options import Json, NoProgress
from .user_code import call_factory, load

if TYPE_CHECKING:
    from tpu_dynamo import Check


def check(
    factory: Factory,
    against: Annotated[
        str, typer.Option("--against", metavar="eager|float64", help="float64 measures eager's own error everywhere.")
    ] = "eager",
    training: Annotated[bool, typer.Option("--training", help="The gradients too.")] = False,
    optimizer: Optimizer = None,
    target: Annotated[
        str, typer.Option("--target", metavar="PLATFORM", help="Where it runs: auto, cpu, tpu, cuda.")
    ] = "auto",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Every result of every graph.")] = False,
    repro: Annotated[
        Path | None, typer.Option("--repro", metavar="FILE.py", help="Write a script of the operator at fault.")
    ] = None,
    json: Json = False,
    no_progress: NoProgress = False,
) -> None:
    """Call a model once, and compare each of its graphs with eager operators; name the first operator at fault.

    It runs here, with the values that the factory gives. Exits with 1 when results are wrong, with 6 when some could
    not be compared.
    """
    if against not in ("eager", "float64"):
        refuse(f"--against {against}: there are eager and float64")
    with waiting(f"building {factory}", not no_progress):
        model, args, *rest = call_factory(load(factory))
        args = args if isinstance(args, tuple | list) else (args,)
        make = None if optimizer is None else load(optimizer)
        kwargs = rest[0] if rest else {}
    with waiting(f"checking {factory}", not no_progress):
        found = _checked(model, args, kwargs, make, against, training, target)
    if json:
        print_json(found.as_dict())
    else:
        _show(found, verbose)
    if repro is not None and not found.right:
        try:
            say(f"wrote {found.write_repro(repro)}")
        except (OSError, ValueError) as error:
            refuse(f"no script was written: {error}", ExitCode.ENVIRONMENT)
    if not found.right:
        end(ExitCode.FINDINGS)
    if not found.complete:
        end(ExitCode.INCOMPLETE)


def _checked(
    model: Any,
    args: Any,
    kwargs: Any,
    make: Callable[..., Any] | None,
    against: str,
    training: bool,
    target: str,
) -> Check:
    import torch

    import tpu_dynamo
    from tpu_dynamo.ahead_of_time.steps import model_inputs

    options = {"target": target}
    if make is None:
        return tpu_dynamo.check(model, *args, kwargs=kwargs, against=against, training=training, options=options)  # pyright: ignore[reportArgumentType]
    from tpu_dynamo._torch_compat import pytree

    model = model.to("tpu")
    inputs = pytree.tree_map_only(torch.Tensor, lambda each: each.to("tpu"), model_inputs(args, kwargs))
    return tpu_dynamo.check(tpu_dynamo.train_step(model, make(model.parameters())), inputs, against=against)  # pyright: ignore[reportArgumentType]


def _show(found: Check, verbose: bool) -> None:
    from tpu_dynamo.numerics.rows import GRAPH_COLUMNS, RESULT_COLUMNS, graph_rows, in_words, result_rows

    right = ("operators", "results", "of its bound")
    shown = table(*(name.upper() for name in GRAPH_COLUMNS), right=tuple(name.upper() for name in right))
    for row in graph_rows(found.graphs):
        shown.add_row(*("" if cell is None else f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    console = results()
    console.print(shown)
    if verbose:
        figures = ("magnitude", "error", "bound", "eager's own")
        for graph in found.graphs:
            each = table(*(name.upper() for name in RESULT_COLUMNS), right=tuple(name.upper() for name in figures))
            for row in result_rows(graph):
                each.add_row(*row)
            console.print(f"\n{graph.described}", markup=False)
            console.print(each)
    noted = [g for g in found.graphs if g.fault or g.nonfinite or g.unchecked]
    if noted:
        console.print(f"\n{in_words(noted)}", markup=False)
