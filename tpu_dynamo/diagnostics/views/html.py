"""The report as one HTML file, which needs no network."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from tpu_dynamo.diagnostics.codes import own_codes
from tpu_dynamo.diagnostics.model import Excerpt, Report, SourceSpan
from tpu_dynamo.diagnostics.printable import visible
from tpu_dynamo.diagnostics.source_locations import shortened
from tpu_dynamo.diagnostics.summary import changes, format_location, sentence, totals
from tpu_dynamo.diagnostics.views.buckets import bucket_rows, bucket_sentence
from tpu_dynamo.diagnostics.views.cuts import cut_frames
from tpu_dynamo.formatting import format_bytes, format_count, format_duration, format_relative_path


def as_html(report: Report) -> str:
    """Return the report as a page: light or dark by the reader's setting, usable by keyboard and screen reader."""
    return _environment().get_template("report.html").render(
        report=report,
        sentence=sentence(report),
        totals=totals(report),
        changes=changes(report),
        frames=cut_frames(report),
        timeline=_timeline(report),
        breaks={b.fingerprint: b for b in report.breaks},
        codes=own_codes(),
        light=_colours("default", ""),
        dark=_colours("github-dark", ""),
    )  # fmt: skip


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tpu_dynamo.diagnostics", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalise,
    )
    environment.filters |= {
        "format_duration": format_duration,
        "format_bytes": format_bytes,
        "format_relative_path": format_relative_path,
        "format_count": format_count,
        "format_location": format_location,
        "bucket_rows": bucket_rows,
        "bucket_sentence": bucket_sentence,
        "code": _code,
        "prose": _prose,
        "snippet": _snippet,
    }
    return environment


def _finalise(value: Any) -> Any:
    """Escape characters that a browser would act on, in every string that reaches the page."""
    return visible(value) if type(value) is str else value


def _colours(style: str, scope: str) -> Markup:
    return Markup(HtmlFormatter(style=style).get_style_defs(f"{scope} .code".strip()))


def _snippet(source: str) -> Markup:
    """Return Python source as HTML with colours."""
    return Markup(_highlighted(visible(source)))


def _prose(text: str) -> Markup:
    """Return words as HTML, with what stands between backticks as code."""
    parts = visible(text).split("`")
    if len(parts) % 2 == 0:  # one of them is alone, and stays as it is
        parts[-2:] = ["`".join(parts[-2:])]
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(parts))


def _code(found: SourceSpan, excerpt: Excerpt | None) -> list[tuple[int, Markup, bool]]:
    """Return the lines around a place: the number, the HTML with the place marked, and whether it is that line."""
    if excerpt is None:
        return [(found.line, _marked(found.text, found.mark), True)] if found.text else []
    shown = []
    for number, line in enumerate(excerpt.lines, excerpt.first_line):
        if number == found.line:
            indent = len(line) - len(line.lstrip())
            mark = (found.mark[0] + indent, found.mark[1] + indent) if found.mark else None
            shown.append((number, _marked(line, mark), True))
        else:
            shown.append((number, Markup(_highlighted(visible(shortened(line, None)[0]))), False))
    return shown


def _marked(line: str, mark: tuple[int, int] | None) -> Markup:
    text, mark = shortened(line, mark)
    start, end = mark or (0, 0)
    parts = [_highlighted(visible(part)) if part else "" for part in (text[:start], text[start:end], text[end:])]
    return Markup(f"{parts[0]}<mark>{parts[1]}</mark>{parts[2]}" if mark else "".join(parts))


@lru_cache(maxsize=4096)
def _highlighted(source: str) -> str:
    lexer = PythonLexer(stripnl=False, ensurenl=False, stripall=False)
    # The formatter ends what it gives with a newline, whatever it was given.
    return highlight(source, lexer, HtmlFormatter(nowrap=True)).removesuffix("\n")


def _timeline(report: Report) -> list[Mapping[str, Any]]:
    """Return the compiles as bars: the start and the length of each in per cent of the whole time."""
    timed = [c for c in report.compiles if c.started and c.seconds]
    if not timed:
        return []
    first = min(c.started for c in timed)
    whole = max(c.started + c.seconds for c in timed) - first or 1.0
    return [
        {"compile": c, "left": 100 * (c.started - first) / whole, "width": max(0.3, 100 * c.seconds / whole)}
        for c in sorted(timed, key=lambda c: c.started)
    ]
