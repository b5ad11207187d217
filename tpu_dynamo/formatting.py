"""Sizes, durations, counts and paths: parsed as people write them, formatted as they read them."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGES = (("year", 365 * 86400), ("month", 30 * 86400), ("week", 7 * 86400), ("day", 86400), ("hour", 3600))


def parse_bytes(text: str) -> int:
    """Return the bytes of a size such as `20GiB`, `20GB`, `20G` (all the same) or `1500`. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size such as 500MiB or 20GiB")
    return int(float(match[1]) * (1 << (10 * " KMGT".index(match[2].upper() or " "))))


def parse_duration(text: str) -> float:
    """Return the seconds of a time such as `90s`, `30m`, `12h`, `7d` or `2w`. Raises ValueError."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no time such as 30m, 12h, 7d or 2w")
    return float(match[1]) * _SECONDS[match[2].lower()]


def format_bytes(size: float) -> str:
    """Return a size in the largest unit of which it has at least one, as `3.1 MiB`; units are powers of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"


def format_duration(seconds: float) -> str:
    """Return a duration as `12 ms`, `3.2 s`, `4 min 05 s` or `2 h 03 min`."""
    if seconds < 0.1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def format_age(seconds: float) -> str:
    """Return how long ago something was, as `3 hours ago`."""
    for name, length in _AGES:
        if seconds >= length:
            return f"{format_count(int(seconds // length), name)} ago"
    return f"{int(seconds // 60)} min ago" if seconds >= 60 else "just now"


def format_count(number: int, noun: str) -> str:
    """Return a number of things, as `1 entry`, `2 entries`, `1,200 graphs`; `noun` is the singular."""
    if noun.endswith("y"):
        plural = f"{noun[:-1]}ies"
    else:
        plural = f"{noun}es" if noun.endswith("ss") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def format_path(path: Path) -> str:
    """Return a path with `~` for the user's home."""
    with suppress(RuntimeError, ValueError):
        return f"~/{path.relative_to(Path.home())}"
    return str(path)


def format_relative_path(file: str) -> str:
    """Return a file's path from the current folder on where it is below it, else whole."""
    relative = os.path.relpath(file) if os.path.isabs(file) else file
    return file if relative.startswith("..") else relative
