"""The report as JSON: all of it, under a published schema."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tpu_dynamo.diagnostics.model import SCHEMA_VERSION, Report
from tpu_dynamo.diagnostics.printable import visible


class NotAReport(ValueError):
    """A file that is no report in JSON, or one of another version."""


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[Report]:
    return TypeAdapter(Report)


def as_json(report: Report) -> str:
    """Return the report as JSON text."""
    return _adapter().dump_json(_printable(report), indent=1).decode()


def read_json(path: Path) -> Report:
    """Read a report that as_json wrote. Raises NotAReport, which says what is wrong."""
    try:
        report = _adapter().validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise NotAReport(f"{path} is no report: {place + ': ' if place else ''}{first['msg']}") from None
    if report.schema_version != SCHEMA_VERSION:
        raise NotAReport(f"{path} has schema version {report.schema_version}; this version reads {SCHEMA_VERSION}")
    return report


def schema() -> dict[str, Any]:
    """Return the JSON schema of reports."""
    return _adapter().json_schema(mode="serialization") | {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tpu-dynamo report",
    }


def _printable(report: Report) -> Report:
    """Escape halves of surrogate pairs in the report: names of files may hold them, and UTF-8 cannot."""
    try:
        _adapter().dump_json(report)
    except ValueError:
        return _adapter().validate_python(_without_surrogates(_adapter().dump_python(report)))
    return report


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else "".join(visible(c) if "\ud800" <= c <= "\udfff" else c for c in value)
    if isinstance(value, dict):
        return {_without_surrogates(k): _without_surrogates(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return tuple(map(_without_surrogates, value))
    return value
