"""A record of memory as one HTML page, which needs no network: a picture over time, and tables by owner and line."""

from __future__ import annotations

import linecache
from collections.abc import Sequence

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from ..diagnostics.printable import visible
from ..formatting import format_bytes, format_duration, format_relative_path
from .record import MemoryRecord, Moment, Place

WIDTH, HEIGHT = 1000, 260
# The order from the bottom up, and a class of the style sheet for each.
OWNERS = ("parameters", "optimizer_state", "gradients", "activations", "tensors", "short-lived")


def page(record: MemoryRecord) -> str:
    """Return the page: light or dark by the reader's setting, usable by keyboard and at a phone's width."""
    environment = Environment(
        # The style sheet is that of the report on graph breaks.
        loader=ChoiceLoader(
            [
                PackageLoader("tpu_dynamo.memory_timeline", "templates"),
                PackageLoader("tpu_dynamo.diagnostics", "templates"),
            ]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters |= {"bytes": format_bytes, "duration": format_duration}
    last = record.moments[-1].seconds or 1.0
    top = record.peak.total or 1
    return environment.get_template("memory.html").render(
        record=record,
        width=WIDTH,
        height=HEIGHT,
        owners=[owner for owner in OWNERS if any(m.owners.get(owner) for m in record.moments)],
        areas=_areas(record.moments, last, top),
        marks=[(m.mark, WIDTH * m.seconds / last) for m in record.moments if m.mark not in ("", "begin", "end")],
        peak_at=WIDTH * record.peak.seconds / last,
        last=last,
        lines=[(_shown(p), _source(p), n, record.asked.get(p, n)) for p, n in record.peak.lines.items()],
        asked=[(_shown(p), _source(p), n) for p, n in list(record.asked.items())[:50]],
        named=[m for m in record.moments if m.mark],
    )


def _areas(moments: Sequence[Moment], last: float, top: int) -> list[tuple[str, str]]:
    """Return for each owner the points of its area, as steps on top of the owners below it."""
    below = [0.0] * len(moments)
    areas = []
    for owner in OWNERS:
        above = [low + m.owners.get(owner, 0) for low, m in zip(below, moments, strict=True)]
        if above != below:
            times = [WIDTH * m.seconds / last for m in moments]
            upper, lower = _steps(times, above, top), _steps(times, below, top)
            areas.append((owner, " ".join([*upper, *reversed(lower)])))
        below = above
    return areas


def _steps(times: Sequence[float], heights: Sequence[float], top: int) -> list[str]:
    points, before = [], None
    for x, height in zip(times, heights, strict=True):
        y = HEIGHT - HEIGHT * height / top
        if before is not None and before != y:
            points.append(f"{x:.1f},{before:.1f}")
        points.append(f"{x:.1f},{y:.1f}")
        before = y
    return points


def _shown(place: Place) -> str:
    return "no line of yours" if place is None else f"{format_relative_path(place[0])}:{place[1]}"


def _source(place: Place) -> str:
    return "" if place is None else linecache.getline(*place).strip()
