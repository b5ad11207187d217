"""Tables for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_CELL = "text-align: {}; padding: 0.1em 0.6em"


def html_table(head: Sequence[str], rows: Iterable[Sequence[str | int | float | None]], caption: str = "") -> str:
    """Return a table as HTML, every text escaped; numbers have separators and stand on the right, None is empty."""
    shown = [f"<caption style='{_CELL.format('left')}'>{escape(caption)}</caption>"] if caption else []
    shown.append("<tr>" + "".join(f"<th style='{_CELL.format('left')}'>{escape(name)}</th>" for name in head) + "</tr>")
    shown += ["<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows]
    return f"<table>{''.join(shown)}</table>"


def _cell(value: str | int | float | None) -> str:
    if isinstance(value, int | float):
        return f"<td style='{_CELL.format('right')}'>{value:,}</td>"
    return f"<td style='{_CELL.format('left')}'>{escape(value or '')}</td>"
