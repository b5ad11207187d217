"""One thing that was looked at, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True)
class Check:
    """What was found of one thing.

    group, name: where it stands in the report. status: `ok`; `note` for what is worth knowing and right as it is, as a
    platform that is not there; `warning` for a finding; `error` for what must work and does not. found: in words.
    advice: what to do, with warnings and errors. facts: the same as data.
    """

    group: str
    name: str
    status: Status
    found: str
    advice: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The check as plain data."""
        return asdict(self) | {"facts": dict(self.facts)}
