"""Sizes, times and paths as people write and read them."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPANS = (("year", 365 * 86400), ("month", 30 * 86400), ("week", 7 * 86400), ("day", 86400), ("hour", 3600))


def bytes_of(text: str) -> int:
    """The bytes of a size such as `20GiB`, `20GB`, `20G` (all the same) or `1500`. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size such as 500MiB or 20GiB")
    return int(float(match[1]) * (1 << (10 * " KMGT".index(match[2].upper() or " "))))


def seconds_of(text: str) -> float:
    """The seconds of a time such as `90s`, `30m`, `12h`, `7d` or `2w`. Raises ValueError."""
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no time such as 30m, 12h, 7d or 2w")
    return float(match[1]) * _SECONDS[match[2].lower()]


def shown_bytes(size: float) -> str:
    """A size in the unit that suits it, as `3.1 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"


def shown_age(seconds: float) -> str:
    """How long ago something was, as `3 hours ago`."""
    for name, length in _SPANS:
        if seconds >= length:
            return f"{counted(int(seconds // length), name)} ago"
    return f"{int(seconds // 60)} min ago" if seconds >= 60 else "just now"


def counted(number: int, noun: str) -> str:
    """A number of things, as `1 entry`, `2 entries`."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def shown_path(path: Path) -> str:
    """A path with ~ for the user's home."""
    with suppress(RuntimeError, ValueError):
        return f"~/{path.relative_to(Path.home())}"
    return str(path)
