"""The command line: `tpu-dynamo`, one file for each verb; what a verb needs is imported when it runs."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from .bundle_verbs import pack, replay
from .cache import verbs as cache_verbs
from .check import check
from .compile import compile
from .cost import cost
from .doctor import doctor
from .exit_codes import Root
from .explain import explain
from .manifest import manifest
from .memory import memory
from .ops import ops
from .plan import plan
from .profile import profile
from .report import AfterDashes, report
from .run import run
from .warmup import warmup

app = typer.Typer(
    name="tpu-dynamo",
    cls=Root,
    help='Tools around torch.compile(model, backend="tpu").',
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from tpu_dynamo.version import __version__

        typer.echo(f"tpu-dynamo {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Log everything, and show the traceback of an unexpected error.")
    ] = False,
) -> None:
    """Run one of the tools around torch.compile(model, backend="tpu")."""
    if debug:
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
        logging.getLogger("tpu_dynamo").setLevel(logging.DEBUG)


app.command()(ops)
app.command(cls=AfterDashes)(report)
app.command(cls=AfterDashes)(profile)
app.command()(explain)
app.command()(warmup)
app.add_typer(manifest, name="manifest")
app.command(cls=AfterDashes)(run)
app.command()(compile)
app.command()(cost)
app.command(cls=AfterDashes)(memory)
app.command()(check)
app.command()(pack)
app.command()(replay)
app.command()(plan)
app.command()(doctor)
app.add_typer(cache_verbs)


def main() -> None:
    """Run the command line."""
    app(prog_name="tpu-dynamo")
