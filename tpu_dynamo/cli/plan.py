"""`tpu-dynamo plan`: which layout of a model over many chips fits and is fastest, and the code that sets it up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tpu_dynamo.formatting import format_bytes

from .console import cut, print_json, results, say, table, waiting
from .exit_codes import ExitCode, end
from .factory_graphs import Factory, Target
from .shared_options import Json, NoProgress


def plan(
    factory: Factory,
    target: Target,
    batch: Annotated[
        int | None,
        typer.Option("--batch", min=1, metavar="ROWS", help="Rows of all chips; as the example's on each chip."),
    ] = None,
    inference: Annotated[
        bool, typer.Option("--inference", help="A forward, instead of a whole training step.")
    ] = False,
    optimizer: Annotated[
        str | None, typer.Option("--optimizer", metavar="MODULE:FUNCTION", help="From parameters; AdamW by default.")
    ] = None,
    loss: Annotated[
        str | None, typer.Option("--loss", metavar="MODULE:FUNCTION", help="From what the model returns to its loss.")
    ] = None,
    compile: Annotated[
        int, typer.Option("--compile", min=0, metavar="N", help="How many of the best libtpu compiles.")
    ] = 3,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="How many layouts to show; --json has all.")] = 12,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with pictures.")] = None,
    json: Json = False,
    no_progress: NoProgress = False,
) -> None:
    """Print the layouts of a model over the chips of a topology, the best first, and the code that sets the best up.

    Data, FSDP, HSDP, tensor parallelism and their products, with and without activation checkpointing and
    micro-batches: all are estimated, and libtpu compiles the best few. Needs no TPU. Exits with 1 when nothing fits.
    """
    with waiting(f"building {factory}", not no_progress) as status:
        from .user_code import call_factory, load

        make = load(factory)
        from tpu_dynamo.planning import data, page, planning

        def build() -> Any:
            import torch

            with torch.device("meta"):
                found = call_factory(make)
            args = found[1] if isinstance(found[1], tuple | list) else (found[1],)
            return found[0], args, found[2] if len(found) > 2 else {}

        found = planning.plan(
            build,
            target,
            batch=batch,
            training=not inference,
            loss=load(loss) if loss else None,
            optimizer=load(optimizer) if optimizer else None,
            compile=compile,
            report=status,
        )
    shown = data.plan_data(found, factory)
    if html is not None:
        html.write_text(page.page(shown), encoding="utf-8")
        say(f"written: {html}")
    if json:
        print_json(shown)
    else:
        _show(shown, top)
    if not any(each["fits"] for each in shown["layouts"]):
        end(ExitCode.FINDINGS)


def _show(shown: dict[str, Any], top: int) -> None:
    say(shown["summary"])
    rows = table("LAYOUT", "FITS", "MEMORY", "STEP", "BY", "WHY", right=("MEMORY", "STEP"), flexible="WHY")
    for each in shown["layouts"][:top]:
        low, high = each["step_seconds"]
        rows.add_row(
            each["name"],
            "yes" if each["fits"] else "no",
            format_bytes(each["memory"]),
            f"{low * 1e3:,.1f} to {high * 1e3:,.1f} ms",
            each["by"],
            cut(each["why"]),
        )
    console = results()
    console.print(rows)
    if len(shown["layouts"]) > top:
        say(f"{len(shown['layouts']) - top} more layouts: --top {len(shown['layouts'])}")
    if shown["code"]:
        console.print()
        sys.stdout.flush()
        typer.echo(shown["code"], nl=False)
