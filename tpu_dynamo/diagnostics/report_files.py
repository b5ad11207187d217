"""Writes a report in one of its forms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .model import Report


def write(report: Report, path: Path, form: str) -> Path:
    """Write the report to `path` as `.html`, `.json`, `.sarif` or `.txt`; raises ValueError for another form."""
    render = _form(form)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(report), encoding="utf-8", newline="\n")
    return path


def _form(suffix: str) -> Callable[[Report], str]:
    # Imported here: each form brings a library with it that the others do without.
    if suffix == ".json":
        from .views.json_file import as_json

        return as_json
    if suffix == ".html":
        from .views.html import as_html

        return as_html
    if suffix == ".sarif":
        from .views.sarif import as_sarif

        return as_sarif
    if suffix == ".txt":
        from .views.terminal import as_text

        return as_text
    raise ValueError(f"no form of a report is called {suffix!r}; there are .html, .json, .sarif and .txt")
