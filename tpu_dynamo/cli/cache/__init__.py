"""`tpu-dynamo cache`: the store of programs and executables, looked into and kept in order."""

from __future__ import annotations

import typer

from .carrying import export, import_, pull, push
from .checking import verify
from .describing import explain, info
from .listing import directory, ls
from .removing import clear, prune, rm

verbs = typer.Typer(
    name="cache", help="Look into the cache of programs and executables, and keep it in order.", no_args_is_help=True
)
verbs.command("dir")(directory)
verbs.command()(ls)
verbs.command()(info)
verbs.command()(explain)
verbs.command()(prune)
verbs.command()(rm)
verbs.command()(clear)
verbs.command()(verify)
verbs.command()(export)
verbs.command("import")(import_)
verbs.command()(push)
verbs.command()(pull)
