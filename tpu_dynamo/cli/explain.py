"""`tpu-dynamo explain CODE`: what a code of ours or of torch's stands for."""

from __future__ import annotations

from typing import Annotated

import typer

from .console import print_json, results
from .exit_codes import refuse
from .shared_options import Json


def explain(
    code: Annotated[str, typer.Argument(metavar="CODE", help="As TPU101 or GB0170; a report names them.")],
    json: Json = False,
) -> None:
    """Say what a code stands for and what to do."""
    from tpu_dynamo.diagnostics.codes import UnknownCode, explanation

    try:
        text = explanation(code)
    except UnknownCode as unknown:
        refuse(str(unknown))
    if json:
        print_json({"code": code.strip().upper(), "text": text})
        return
    console = results()
    if not console.is_terminal:
        typer.echo(text)
        return
    from rich.markdown import Markdown

    console.print(Markdown(text))
