"""A profile in words and rows, for all views."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from ..formatting import format_bytes, format_count, format_relative_path
from .model import PARTS, LineTime, Profile, Step


def format_time(seconds: float) -> str:
    """Return a time with three digits, as `12.3 ms`, `840 us` or `0`."""
    if not seconds:
        return "0"
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        value = seconds * scale
        if value >= 1 or unit == "us":
            digits = 0 if value >= 100 else 1 if value >= 10 else 2
            return f"{value:,.{digits}f} {unit}"
    raise AssertionError


def format_share(share: float) -> str:
    """Return a share as per cent, small ones with a digit more."""
    return f"{100 * share:.0f}%" if share >= 0.1 else f"{100 * share:.1f}%"


def format_place(file: str | None, line: int | None) -> str:
    """Return a line as `model.py:12`, from the current folder on; of a library from its package on."""
    if file is None:
        return "not of any line"
    return f"{file.rpartition('site-packages/')[2] if 'site-packages/' in file else format_relative_path(file)}:{line}"


def typical(steps: Iterable[Step]) -> Step | None:
    """Return the step whose length is the median; None without steps. Steps that compile count if all do."""
    found = list(steps)
    found = [step for step in found if not step.parts["compile"]] or found
    return sorted(found, key=lambda step: step.seconds)[len(found) // 2] if found else None


def sentence(profile: Profile) -> str:
    """Return the profile in one sentence or two."""
    steps = profile.steps
    lengths = [step.seconds for step in steps]
    shares = sorted(profile.parts.items(), key=lambda part: -part[1])
    said = ", ".join(
        f"{name} {format_share(seconds / profile.seconds)}"
        for name, seconds in shares
        if seconds > 0.0005 * profile.seconds
    )
    spread = ""
    if len(lengths) > 1:
        spread = f" of {format_time(median(lengths))} ({format_time(min(lengths))} to {format_time(max(lengths))})"
    busy = (
        "" if profile.synchronous else f" The device was busy {format_share(profile.device_seconds / profile.seconds)}."
    )
    return f"{format_count(len(steps), 'step')}{spread} on {profile.platform}: {said} of the host's time.{busy}"


def compared(profile: Profile) -> list[tuple[str, str]]:
    """Return figures beside the sentence: names and values."""
    found = [("profiled", format_time(profile.seconds)), ("device busy", format_time(profile.device_seconds))]
    found += [
        (f"copied {direction}", f"{format_bytes(nbytes)} in {format_time(seconds)}")
        for direction, (nbytes, seconds) in profile.transfers.items()
    ]
    return found


def parts_in_words(line: LineTime) -> str:
    """Return the parts of a line's time, the longest first, as `execution 80%, transfer 20%`."""
    whole = line.seconds or 1.0
    parts = sorted(line.parts.items(), key=lambda part: -part[1])
    return ", ".join(f"{name} {format_share(seconds / whole)}" for name, seconds in parts if seconds >= 0.01 * whole)


def parts_of(parts: dict[str, float]) -> list[float]:
    """Return seconds in the order of `PARTS`."""
    return [parts.get(name, 0.0) for name in PARTS]
