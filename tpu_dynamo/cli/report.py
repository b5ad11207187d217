"""`tpu-dynamo report`: graph breaks and recompiles of a finished run, or of a command that it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from tpu_dynamo.formatting import format_count

from .console import results, say
from .exit_codes import ExitCode, end, refuse

if TYPE_CHECKING:
    from tpu_dynamo.diagnostics.model import Report

COMMAND = "tpu_dynamo.command"
_STDOUT = Path("-")


class AfterDashes(TyperCommand):
    """A verb that keeps what comes behind `--` for itself: a command with options of its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the command off the arguments."""
        if "--" in args:
            at = args.index("--")
            ctx.meta[COMMAND] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)


def report(
    ctx: typer.Context,
    source: Annotated[
        Path | None,
        typer.Argument(metavar="RUN.json|TRACE", help="A saved report, or a file or folder of TORCH_TRACE."),
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as a page.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE|-", help="Write the report as JSON; - is stdout.")] = None,
    sarif: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as SARIF 2.1.0.")] = None,
    github: Annotated[bool, typer.Option("--github", help="Print GitHub's annotations instead of text.")] = False,
    baseline: Annotated[
        Path | None, typer.Option(metavar="OLD.json", help="An earlier report, to tell what is new.")
    ] = None,
    fail_on: Annotated[
        str | None, typer.Option(metavar="new|any|fundamental", help="Exit with 1 when there are such findings.")
    ] = None,
    redact: Annotated[bool, typer.Option("--redact", help="Leave out code, names, values and paths.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also what differs exactly from the nearest entries of the cache.")
    ] = False,
) -> None:
    """Show graph breaks and recompiles: `report RUN.json`, `report TRACE`, or `report -- python train.py …`.

    Exits with the command's own code where that is not 0, else with 1 when --fail-on finds something.
    """
    from tpu_dynamo.diagnostics.baseline import compare, failing

    if fail_on not in (None, "new", "any", "fundamental"):
        refuse(f"--fail-on {fail_on}: there are new, any and fundamental")
    command = ctx.meta.get(COMMAND)
    if bool(command) == (source is not None):
        refuse("give either a saved report or trace, or a command behind --")
    found, status = _run(command) if command else (_read(source or Path()), 0)
    before = _read(baseline) if baseline is not None else None
    _write(found, redact, {".html": html, ".json": json, ".sarif": sarif}, github, verbose)
    if before is not None:
        difference = compare(found, before)
        new, known, gone = len(difference.new), len(difference.known), len(difference.gone)
        say(f"{new} new, {known} known, {gone} gone since {baseline}")
    if status:
        raise typer.Exit(status)
    if fail_on is not None and (bad := failing(found, before, fail_on)):
        say(f"tpu-dynamo: {format_count(len(bad), 'finding')} for --fail-on {fail_on}")
        end(ExitCode.FINDINGS)


def _read(path: Path) -> Report:
    from tpu_dynamo.diagnostics.report_sources import Unreadable, read_report

    try:
        return read_report(path)
    except Unreadable as error:
        refuse(str(error))


def _run(command: list[str]) -> tuple[Report, int]:
    from tpu_dynamo.diagnostics.report_sources import Unreadable, run_and_read

    try:
        return run_and_read(command)
    except Unreadable as error:
        refuse(str(error))


def _write(found: Report, redacted: bool, files: dict[str, Path | None], github: bool, verbose: bool) -> None:
    from tpu_dynamo.diagnostics.redaction import redact
    from tpu_dynamo.diagnostics.report_files import write

    shown = redact(found) if redacted else found
    for form, path in files.items():
        if path is not None and path != _STDOUT:
            write(shown, path, form)
            say(f"wrote {path}")
    if files[".json"] == _STDOUT:
        from tpu_dynamo.diagnostics.views.json_file import as_json

        typer.echo(as_json(shown))
        return
    if github:
        from tpu_dynamo.diagnostics.views.github import as_annotations

        typer.echo(as_annotations(shown))
        return
    from tpu_dynamo.diagnostics.views.terminal import show

    console = results()
    if not console.is_terminal:
        console.width = 120
    show(shown, console, verbose=verbose)
