"""Flags of XLA and of its plugins for single compiles: as text, in keys, and how XLA refuses them."""

from __future__ import annotations

import re

from .environment import Environment

# Names and values, sorted by name; XLA parses the values.
XlaFlags = tuple[tuple[str, str], ...]

# The words of XLA for what it knows itself, and of libtpu for its own flags.
_REFUSED = re.compile(
    r"No such compile option: '(?P<unknown>[^']*)'"
    r"|While setting option (?P<known>[^,]+), '"
    r"|Failed to parse '.*' into flag (?P<parsed>\w+)",
    re.DOTALL,
)


class FlagRefused(ValueError):
    """A flag that the compiler does not know, or a value that the flag cannot have.

    flag: its name. unknown: whether the compiler does not know it.
    """

    def __init__(self, platform: str, flag: str, value: str, unknown: bool, message: str):
        self.flag, self.unknown = flag, unknown
        why = f"XLA for {platform} knows no flag {flag!r}" if unknown else f"flag {flag!r} cannot be {value!r}"
        super().__init__(f"{why}: {message.strip()}")


def refusal_of_flag(platform: str, flags: XlaFlags, message: str) -> FlagRefused | None:
    """Return the error for a flag if `message`, XLA's error of a compile with these flags, is about one of them."""
    match = _REFUSED.search(message) if flags else None
    values = dict(flags)
    if match is None or match[match.lastgroup or 0] not in values:
        return None
    name = match[match.lastgroup or 0]
    return FlagRefused(platform, name, values[name], match.lastgroup == "unknown", message)


def with_flags(environment: Environment, flags: XlaFlags) -> Environment:
    """Return the compile environment of compiles with these flags; the same one where there are none."""
    return {**environment, "xla_flags": [f"{name}={value}" for name, value in flags]} if flags else environment
