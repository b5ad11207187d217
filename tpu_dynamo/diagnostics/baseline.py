"""Compares a report with an earlier one, and decides whether a check fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .model import Break, Recompile, Report

FailOn = Literal["new", "any", "fundamental"]


@dataclass(frozen=True)
class Difference:
    """The findings of a report: those that a baseline does not have, and the marks of those that are gone."""

    new: tuple[Break | Recompile, ...]
    known: tuple[Break | Recompile, ...]
    gone: tuple[str, ...]


def compare(report: Report, baseline: Report | None) -> Difference:
    """Compare the findings of two reports by fingerprint; without a baseline everything is new."""
    before = _findings(baseline) if baseline is not None else {}
    now = _findings(report)
    return Difference(
        new=tuple(found for mark, found in now.items() if mark not in before),
        known=tuple(found for mark, found in now.items() if mark in before),
        gone=tuple(mark for mark in before if mark not in now),
    )


def failing(report: Report, baseline: Report | None, fail_on: FailOn) -> tuple[Break | Recompile, ...]:
    """Return the findings for which a check fails.

    `any`: all. `new`: those not in the baseline. `fundamental`: breaks that only a change of the user's code removes,
    and that the baseline does not have. What follows from an earlier break fails with that one.
    """
    difference = compare(report, baseline)
    found = (*difference.new, *difference.known) if fail_on == "any" else difference.new
    if fail_on == "fundamental":
        return tuple(f for f in found if isinstance(f, Break) and f.kind == "fundamental")
    return tuple(f for f in found if not (isinstance(f, Break) and f.kind == "caused"))


def _findings(report: Report) -> dict[str, Break | Recompile]:
    return {found.fingerprint: found for found in (*report.breaks, *report.recompiles)}
