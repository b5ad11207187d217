"""The profile as one HTML file, which needs no network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tpu_dynamo.diagnostics.printable import visible
from tpu_dynamo.formatting import format_bytes, format_count

from ..flame import flame
from ..model import PARTS, Profile
from ..summary import compared, format_place, format_share, format_time, parts_of, sentence, typical
from .chrome import LANES

# Bars and rows beyond which a page gets slow: the longest are shown.
_MOST_BARS, _MOST_OPERATIONS, _MOST_STEPS, _MOST_LINES = 30_000, 300, 200, 500


def as_html(profile: Profile) -> str:
    """Return the profile as a page: light or dark by the reader's setting, usable by keyboard and on a phone."""
    steps = profile.steps[:_MOST_STEPS]
    return _environment().get_template("profile.html").render(
        profile=profile,
        sentence=sentence(profile),
        figures=compared(profile),
        middle=typical(profile.steps),
        count=max(1, len(profile.steps)),
        whole=profile.whole or 1.0,
        longest=max((step.seconds for step in steps), default=0.0) or 1.0,
        lines=profile.lines[:_MOST_LINES],
        steps=steps,
        operations=profile.operations[:_MOST_OPERATIONS],
        parts=PARTS,
        bars=_data(_bars(profile)),
        flame=_data(flame(profile.operations)),
    )  # fmt: skip


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        # The look, and the tables that sort and filter, are the graph-break report's.
        loader=ChoiceLoader(
            [PackageLoader("tpu_dynamo.profiling", "templates"), PackageLoader("tpu_dynamo.diagnostics", "templates")]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters |= {
        "format_time": format_time,
        "format_share": format_share,
        "format_bytes": format_bytes,
        "format_count": format_count,
        "format_place": lambda row: format_place(row.file, row.line),
        "parts_of": parts_of,
    }
    return environment


def _bars(profile: Profile) -> Mapping[str, Any]:
    """Return the timeline's bars: names once, then lane, name, kind, start and length in microseconds of each."""
    longest = sorted(profile.events, key=lambda event: -event.seconds)[:_MOST_BARS]
    names: dict[str, int] = {}
    kinds: dict[str, int] = {}
    lanes = list(LANES)
    rows = [
        [
            lanes.index(event.lane),
            names.setdefault(event.name, len(names)),
            kinds.setdefault(event.kind, len(kinds)),
            round(event.start * 1e6, 1),
            round(event.seconds * 1e6, 1),
        ]
        for event in sorted(longest, key=lambda event: event.start)
    ]
    return {
        "lanes": list(LANES.values()),
        "names": list(names),
        "kinds": list(kinds),
        "bars": rows,
        "steps": [[step.number, round(step.start * 1e6, 1), round(step.seconds * 1e6, 1)] for step in profile.steps],
        "seconds": profile.seconds,
        "left_out": len(profile.events) - len(longest),
    }


def _data(value: Any) -> Markup:
    """Return data as JSON that may stand in a script element, whatever its texts are."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
