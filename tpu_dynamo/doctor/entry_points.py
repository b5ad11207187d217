"""Owners of the backend names `tpu` and `tpu_dynamo`, by entry points; trial.py asks for torch.device("tpu")."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

from .check import Check

GROUP = "Names"
_OURS = "tpu_dynamo.backend:tpu"


def checks() -> Iterator[Check]:
    """Check who registers the backends `tpu` and `tpu_dynamo`, and list what `import torch` loads by itself."""
    points = metadata.entry_points(group="torch_dynamo_backends")
    for name in ("tpu", "tpu_dynamo"):
        claims = [point for point in points if point.name == name]
        facts = {"claims": [{"value": claim.value, "package": _package(claim)} for claim in claims]}
        title = f'backend="{name}"'
        if not claims:
            yield Check(GROUP, title, "error", "nobody registers it", "pip install tpu-dynamo", facts)
        elif claims[0].value != _OURS:  # Dynamo takes the first
            found = f"{_package(claims[0])} ({claims[0].value}) comes first"
            yield Check(GROUP, title, "warning", found, f'torch.compile(model, backend="{_other(name)}")', facts)
        elif others := [_package(claim) for claim in claims[1:] if claim.value != _OURS]:
            found = f"ours, and {', '.join(others)} asks for it too; which comes first depends on sys.path"
            yield Check(GROUP, title, "warning", found, f'torch.compile(model, backend="{_other(name)}")', facts)
        else:
            yield Check(GROUP, title, "ok", f"ours ({_OURS})", facts=facts)
    for point in metadata.entry_points(group="torch.backends"):
        found = f"{_package(point)} ({point.value}) is loaded by `import torch`"
        yield Check(GROUP, f"autoload {point.name}", "note", found, facts={"value": point.value})


def _other(name: str) -> str:
    return "tpu_dynamo" if name == "tpu" else "tpu"


def _package(point: metadata.EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "a package without a name"
