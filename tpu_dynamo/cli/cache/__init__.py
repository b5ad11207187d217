"""`tpu-dynamo cache`: the store of programs and executables, looked into and kept in order."""

from __future__ import annotations

import typer

from .info import explain, info
from .ls import directory, ls
from .prune import clear, prune, rm
from .transport import export, import_, pull, push
from .verify import verify

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
