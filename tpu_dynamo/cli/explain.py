"""`tpu-dynamo explain CODE`: what a code of ours or of torch's stands for."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .ending import refuse


def explain(
    code: Annotated[str, typer.Argument(metavar="CODE", help="As TPU101 or GB0170; a report names them.")],
) -> None:
    """Say what a code stands for and what to do."""
    from tpu_dynamo.diagnostics.codes import UnknownCode, explanation

    try:
        text = explanation(code)
    except UnknownCode as unknown:
        refuse(str(unknown))
    if not sys.stdout.isatty():
        typer.echo(text)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(text))
