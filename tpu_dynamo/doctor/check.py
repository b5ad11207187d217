"""The result of looking at one thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True)
class Check:
    """The result of looking at one thing.

    group, name: its heading and its line in the report. status: `ok`; `note` for something worth knowing that is right
    as it is, such as an absent platform; `warning` for a finding; `error` for something that must work and does not.
    found: the result in words. advice: what to do about warnings and errors. facts: the result as data.
    """

    group: str
    name: str
    status: Status
    found: str
    advice: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the check as plain data."""
        return asdict(self) | {"facts": dict(self.facts)}
