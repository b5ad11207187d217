"""`tpu-dynamo manifest`: what may stand in a manifest, and whether one is sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tpu_dynamo.formatting import format_count

from .console import print_json, say
from .exit_codes import refuse
from .shared_options import Json

manifest = typer.Typer(help="Manifests of `tpu-dynamo warmup`.", no_args_is_help=True)


@manifest.command()
def schema(json: Json = False) -> None:
    """Print the JSON schema of manifests, for editors; JSON it is with and without --json."""
    from tpu_dynamo.warmup.manifest import json_schema

    print_json(json_schema())


@manifest.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="MANIFEST.toml", help="The manifest.")],
    json: Json = False,
) -> None:
    """Say what is wrong with a manifest, with lines; exits with 2 where something is. Nothing of yours is imported."""
    from tpu_dynamo.warmup.cases import cases_of
    from tpu_dynamo.warmup.manifest_file import ManifestError, read_manifest

    try:
        found = read_manifest(file)
    except ManifestError as error:
        if json:
            print_json([{"line": p.line, "key": p.key, "why": p.why} for p in error.problems])
        refuse(f"the manifest cannot be used\n{error}")
    cases = cases_of(found, file)
    if json:
        print_json([])
    say(f"{file} is sound: {format_count(len(found.model), 'model')}, {format_count(len(cases), 'case')}")
