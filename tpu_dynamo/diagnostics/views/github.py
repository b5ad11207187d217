"""The report as annotations that GitHub shows beside the lines of a change."""

from __future__ import annotations

from tpu_dynamo.diagnostics.model import Report, SourceSpan
from tpu_dynamo.diagnostics.printable import visible
from tpu_dynamo.diagnostics.summary import changes
from tpu_dynamo.formatting import format_relative_path


def as_annotations(report: Report) -> str:
    """Return the report as GitHub's workflow commands, one a line."""
    lines = []
    for change in changes(report):
        text = change.advice.text if change.advice else ""
        level = "notice" if change.caused else "warning"
        lines.append(_command(level, change.own_place or change.place, f"{change.code}: {change.title}", text))
    for found in report.unsupported:
        lines.append(_command("error", found.place, f"{found.code}: {found.operation}", f"{found.why}; {found.hint}"))
    return "\n".join(lines)


def _command(level: str, found: SourceSpan | None, title: str, text: str) -> str:
    properties = []
    if found is not None:
        properties += [
            f"file={_property(format_relative_path(found.file))}",
            f"line={found.line}",
            f"endLine={found.line}",
        ]
        if found.column and found.end_column:
            properties += [f"col={found.column}", f"endColumn={found.end_column}"]
    properties.append(f"title={_property(title)}")
    return f"::{level} {','.join(properties)}::{_data(text or title)}"


def _data(text: str) -> str:
    # visible() has escaped \r already; only what GitHub itself decodes is left.
    return visible(text).replace("%", "%25").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
