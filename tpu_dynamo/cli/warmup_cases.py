"""The cases that `tpu-dynamo warmup` is asked for: of a manifest, of a module, or of one factory."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from .exit_codes import refuse

if TYPE_CHECKING:
    from tpu_dynamo.warmup.cases import Case
    from tpu_dynamo.warmup.workers import Workers


class Modes(StrEnum):
    """The values of `--mode`."""

    inference = "inference"
    train = "train"
    step = "step"
    both = "both"


def cases_asked_for(
    source: str, targets: list[str], mode: Modes | None, init: str, only: list[str], workers: Workers
) -> list[Case]:
    """Return the cases of a source, which is a manifest's path or MODULE[:FACTORY].

    targets, mode: in the place of those that the source names. init: how a factory without a manifest is called.
    only: names of models and cases, all if there are none. Refuses what cannot be used.
    """
    from tpu_dynamo.warmup.cases import cases_of, chosen
    from tpu_dynamo.warmup.manifest_file import ManifestError, read_manifest
    from tpu_dynamo_runtime import TARGETS, UnknownTarget, find_topology

    for target in targets:
        if target not in TARGETS and find_topology(target) is None:
            raise UnknownTarget(target)
    if init not in ("meta", "random", "real"):
        refuse(f"--init {init}: there are meta, random and real")
    modes = [] if mode is None else ["inference", "train"] if mode == "both" else [str(mode)]
    path = Path(source)
    if path.suffix == ".toml" or path.is_file():
        try:
            cases = cases_of(read_manifest(path), path, targets=targets, modes=modes)
        except ManifestError as error:
            refuse(f"the manifest cannot be used\n{error}")
    else:
        cases = _of_code(source, targets, modes, init, workers)
    found = chosen(cases, only)
    if not found:
        refuse(f"no case is named {' or '.join(only)}; there are {', '.join(dict.fromkeys(c.model for c in cases))}")
    return found


def _of_code(source: str, targets: list[str], modes: list[str], init: str, workers: Workers) -> list[Case]:
    """Return the cases of a module's decorated functions, or of one function."""
    import dataclasses
    import itertools

    from tpu_dynamo.warmup.cases import Case

    module, _, name = source.partition(":")
    folders = (os.getcwd(),)
    try:
        found = workers.cases_in(module, folders, [name] if name else [])
    except LookupError as error:
        refuse(str(error))
    if not found and not name:
        refuse(
            f"the module {module} has no function with @tpu_dynamo.warmup_case, and {source!r} is no manifest\n"
            "  try: MODULE:FACTORY, or the path of a TOML file"
        )
    if not found:
        return [
            Case("/".join((name, m, t)), name, t, m, source, folders, init=init)
            for t, m in itertools.product(targets or ["auto"], modes or ["inference"])
        ]
    if not (targets or modes):
        return found
    changed: dict[str, Case] = {}
    for case in found:
        middle = case.name.split("/")[2:-1]
        for target, mode in itertools.product(targets or [case.target], modes or [case.mode]):
            new = "/".join([case.model, mode, *middle, target])
            changed[new] = dataclasses.replace(case, name=new, target=target, mode=mode)
    return list(changed.values())
