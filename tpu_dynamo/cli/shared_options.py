"""Options that several verbs have, with one meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
NoProgress = Annotated[bool, typer.Option("--no-progress", help="Show no progress; none is shown without a terminal.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
CacheDir = Annotated[
    Path | None,
    typer.Option("--cache-dir", metavar="DIR", help="The cache, in the place of TPU_DYNAMO_CACHE_DIR."),
]
