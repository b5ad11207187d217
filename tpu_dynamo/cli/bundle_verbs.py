"""`tpu-dynamo pack` and `tpu-dynamo replay`: a model's graphs in one file, and what becomes of them elsewhere."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from tpu_dynamo.formatting import format_bytes, parse_bytes

from .console import print_json, results, say, table, waiting
from .exit_codes import ExitCode, end, refuse
from .factory_graphs import Factory, Optimizer, Target, Training
from .shared_options import Json, NoProgress
from .user_code import call_factory, load

MaxSize = Annotated[str, typer.Option("--max-size", metavar="SIZE", help="What a bundle may hold, unpacked; as 20GiB.")]


def pack(
    factory: Factory,
    target: Target,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.zip", help="The bundle.")] = Path(
        "bundle.zip"
    ),
    training: Training = False,
    optimizer: Optimizer = None,
    values: Annotated[
        bool, typer.Option("--values", help="The values of inputs and weights too; graphs are then run and checked.")
    ] = False,
    redact: Annotated[
        bool, typer.Option("--redact", help="Stand-ins for your paths, names and strings; no error messages.")
    ] = False,
    max_size: MaxSize = "256MiB",
    json: Json = False,
    no_progress: NoProgress = False,
) -> None:
    """Pack a model's graphs, shapes, options, versions, programs, and the stage at which each fails, into one file.

    It needs no chip, and holds no values of yours without --values, but for constants that the code makes. Exits with 1
    when a graph fails, which is packed all the same.
    """
    with waiting(f"building {factory}", not no_progress):
        model, args, *rest = call_factory(load(factory))
        make = None if optimizer is None else load(optimizer)
    from tpu_dynamo.bundles.manifest import BadBundle
    from tpu_dynamo.bundles.packing import pack as pack_model

    with waiting(f"packing {factory} for {target}", not no_progress):
        try:
            manifest = pack_model(
                output,
                model,
                args if isinstance(args, tuple | list) else (args,),
                rest[0] if rest else {},
                target=target,
                training=training,
                optimizer=make,
                values=values,
                redact=redact,
                max_bytes=_bytes(max_size),
            )
        except (BadBundle, OSError) as error:
            refuse(f"{output}: {error}", ExitCode.ENVIRONMENT)
    failed = [graph for graph in manifest.graphs if graph.failure is not None]
    if json:
        import json as json_text

        print_json(json_text.loads(manifest.to_json()))
    else:
        shown = table("GRAPH", "WENT THROUGH", "FAILED AT", "ERROR")
        for graph in manifest.graphs:
            failure = graph.failure
            error = "" if failure is None else f"{failure.code} {failure.type}".strip()
            shown.add_row(graph.name, ", ".join(graph.reached), "" if failure is None else failure.stage, error)
        results().print(shown)
    say(f"wrote {output}, {format_bytes(output.stat().st_size)}")
    if failed:
        end(ExitCode.FINDINGS)


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE.zip", help="A bundle of `tpu-dynamo pack`.")],
    target: Annotated[
        str | None, typer.Option("--target", metavar="TARGET", help="Another target than the bundle's.")
    ] = None,
    imported: Annotated[
        list[str] | None,
        typer.Option("--import", metavar="MODULE", help="A library that defines operators of the graphs."),
    ] = None,
    max_size: MaxSize = "256MiB",
    json: Json = False,
    no_progress: NoProgress = False,
) -> None:
    """Take a bundle's graphs the same way here, and say which fail, as they did or in another way.

    Nothing of the bundle is run as code, and nothing is unpacked. Exits with 1 when a graph fails here.
    """
    from tpu_dynamo.device import register_if_free

    register_if_free()
    for name in imported or ():
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            refuse(f"--import {name}: no module named {error.name!r}")
    from tpu_dynamo.bundles.manifest import BadBundle
    from tpu_dynamo.bundles.replaying import replay as replay_bundle

    with waiting(f"replaying {file}", not no_progress):
        try:
            found = replay_bundle(file, target=target, max_bytes=_bytes(max_size))
        except (BadBundle, OSError) as error:
            refuse(f"{file}: {error}")
    if json:
        print_json(found.as_dict())
    else:
        _show(found)
    if found.fails:
        end(ExitCode.FINDINGS)


def _show(found: Any) -> None:
    shown = table("GRAPH", "VERDICT", "THEN", "HERE")
    for graph in found.graphs:
        ends = ["went through" if f is None else f"{f.stage}: {f.code} {f.type}" for f in (graph.then, graph.now)]
        shown.add_row(graph.name, graph.verdict, *ends)
    console = results()
    console.print(shown)
    for graph in found.graphs:
        if graph.now is not None:
            console.print(f"\n{graph.name}: {graph.now.message}", markup=False)
    for package, (then, now) in found.different.items():
        say(f"{package} was {then}, here it is {now}")


def _bytes(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        refuse(f"--max-size {error}")
