"""A plan for people's browsers: one HTML page with a picture, which needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from ..formatting import format_bytes

_WIDTH, _ROW = 640, 22
_COLOURS = {"parameters": "#4e79a7", "gathered": "#a0cbe8", "activations": "#f28e2b", "gradients": "#59a14f",
            "optimizer": "#b6992d", "compute": "#4e79a7", "communication": "#e15759"}  # fmt: skip
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1100px;padding:0 1em;color:#222}
table{border-collapse:collapse}td,th{padding:.25em .8em;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}tr.no{color:#999}pre{background:#f6f6f6;padding:1em;overflow:auto}
svg text{font:12px system-ui,sans-serif}"""


def page(data: dict[str, Any]) -> str:
    """Return the page of a plan. data: as `plan_data` gives it."""
    title = f"{data['model']} on {data['target']}, {data['batch']} rows"
    best = data["layouts"][:12]
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>',
            f"<style>{_STYLE}</style><h1>{escape(title)}</h1>",
            f"<p>{escape(data['summary'])}</p>",
            "<h2>A step, in milliseconds</h2>", _times(best),
            f"<h2>Memory of a chip, of {format_bytes(data['available'])}</h2>", _memories(best, data["available"]),
            "<h2>Layouts</h2>", _rows(data["layouts"]),
            "<h2>Code of the best</h2>", f"<pre>{escape(data['code'])}</pre></html>",
        ]
    )  # fmt: skip


def _times(layouts: list[dict[str, Any]]) -> str:
    longest = max((each["step_seconds"][1] for each in layouts), default=1) or 1
    bars = []
    for each in layouts:
        compute = each["compute_seconds"]
        low, high = each["step_seconds"]
        parts = [("compute", compute), ("communication", high - compute)]
        bars.append((each["name"], parts, longest, f"{low * 1e3:,.1f} to {high * 1e3:,.1f} ms"))
    return _bars(bars)


def _memories(layouts: list[dict[str, Any]], available: int) -> str:
    longest = max([available, *(sum(each["estimate"]["memory"].values()) for each in layouts)])
    bars = [
        (each["name"], list(each["estimate"]["memory"].items()), longest, format_bytes(each["memory"]))
        for each in layouts
    ]
    return _bars(bars, available / longest)


def _bars(bars: Sequence[tuple[str, Sequence[tuple[str, float]], float, str]], mark: float | None = None) -> str:
    left, height = 260, _ROW * len(bars) + 30
    drawn = []
    for row, (name, parts, longest, said) in enumerate(bars):
        y, x = row * _ROW, float(left)
        drawn.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
        for what, size in parts:
            width = _WIDTH * size / longest
            place = f'x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{_ROW - 6}"'
            drawn.append(f'<rect {place} fill="{_COLOURS[what]}"><title>{escape(what)}</title></rect>')
            x += width
        drawn.append(f'<text x="{x + 6:.1f}" y="{y + 15}">{escape(said)}</text>')
    if mark is not None:
        at = left + _WIDTH * mark
        drawn.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y2="{height - 30}" stroke="#222" stroke-dasharray="4"/>')
    x = left
    for what in dict.fromkeys(what for _, parts, _, _ in bars for what, _ in parts):
        drawn.append(f'<rect x="{x}" y="{height - 20}" width="12" height="12" fill="{_COLOURS[what]}"/>')
        drawn.append(f'<text x="{x + 16}" y="{height - 10}">{escape(what)}</text>')
        x += 120
    return f'<svg width="{left + _WIDTH + 200}" height="{height}" role="img">{"".join(drawn)}</svg>'


def _rows(layouts: list[dict[str, Any]]) -> str:
    rows = ["<table><tr><th>layout</th><th>fits</th><th>memory</th><th>step, ms</th><th>by</th><th>why</th></tr>"]
    for each in layouts:
        low, high = each["step_seconds"]
        rows.append(
            f'<tr class="{"" if each["fits"] else "no"}"><td>{escape(each["name"])}</td>'
            f"<td>{'yes' if each['fits'] else 'no'}</td><td>{format_bytes(each['memory'])}</td>"
            f"<td>{low * 1e3:,.1f} to {high * 1e3:,.1f}</td><td>{escape(each['by'])}</td>"
            f"<td>{escape(each['why'])}</td></tr>"
        )
    return "\n".join([*rows, "</table>"])
