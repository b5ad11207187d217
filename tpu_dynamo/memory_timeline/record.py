"""A record of the device's memory over time, and its views."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tpu_dynamo_runtime import html_table

from ..formatting import format_bytes, format_duration

# Lines that a moment keeps, those that hold most.
LINES = 12
Place = tuple[str, int] | None


@dataclass(frozen=True)
class Moment:
    """The memory that was held at one time.

    seconds: since the record began. owners: bytes by owner as in Memory; `short-lived` is what was gone before anyone
    looked. lines: bytes by the line that asked for them, of those that hold most; None for memory from before and for
    threads without the user's code, as autograd's. mark: its name, if it has one.
    """

    seconds: float
    total: int
    owners: dict[str, int]
    lines: dict[Place, int]
    mark: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the moment as plain data."""
        return {
            "seconds": self.seconds,
            "total": self.total,
            "owners": self.owners,
            "lines": _plain(self.lines),
            "mark": self.mark,
        }


@dataclass(frozen=True)
class MemoryRecord:
    """The device's memory over time.

    moments: in their order. peak: the one when most was held. asked: all bytes that each line asked for, the largest
    first. constants: bytes of compiled graphs' constants, which are in no moment.
    """

    moments: tuple[Moment, ...] = field(repr=False)
    peak: Moment
    asked: dict[Place, int] = field(repr=False)
    constants: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain data, ready for JSON."""
        return {
            "moments": [moment.as_dict() for moment in self.moments],
            "peak": self.peak.as_dict(),
            "asked": _plain(self.asked),
            "constants": self.constants,
        }

    def to_json(self, file: str | Path) -> Path:
        """Write the record as JSON; return the file."""
        path = Path(file)
        path.write_text(json.dumps(self.as_dict(), indent=1), encoding="utf-8")
        return path

    def to_html(self, file: str | Path) -> Path:
        """Write the record as a page that needs no network; return the file."""
        from .page import page  # brings a template engine, which few need

        path = Path(file)
        path.write_text(page(self), encoding="utf-8")
        return path

    def __str__(self) -> str:
        peak = self.peak
        after, last = format_duration(peak.seconds), self.moments[-1].total
        lines = [f"peak {format_bytes(peak.total)} after {after}, {format_bytes(last)} at the end"]
        owners = sorted(peak.owners.items(), key=lambda item: -item[1])
        lines += [f"{format_bytes(nbytes):>12}  {owner.replace('_', ' ')}" for owner, nbytes in owners]
        lines += ["by line, at the peak"]
        lines += [f"{format_bytes(nbytes):>12}  {where(place)}" for place, nbytes in peak.lines.items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return owners and lines at the peak for a notebook."""
        owners = html_table(("owner", "bytes at the peak"), self.peak.owners.items())
        lines = html_table(("line", "bytes at the peak"), ((where(p), n) for p, n in self.peak.lines.items()))
        return owners + lines


def where(place: Place) -> str:
    """Return a line for people."""
    return "(no line of yours)" if place is None else f"{place[0]}:{place[1]}"


def _plain(lines: dict[Place, int]) -> list[dict[str, Any]]:
    return [{"file": place and place[0], "line": place and place[1], "bytes": n} for place, n in lines.items()]
