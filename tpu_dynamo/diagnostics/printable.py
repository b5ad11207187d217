"""Text from source files and messages, made harmless to print."""

from __future__ import annotations

import re

# Control characters but tab and newline, the marks that reorder text, and halves of surrogate pairs.
_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """Replace characters that a terminal or a page would act on by escapes, as `\\x1b`."""
    return _HARMFUL.sub(lambda found: ascii(found.group())[1:-1], text)


def one_line(text: str) -> str:
    """Escape as `visible` does, and put the text on one line."""
    return re.sub(r"\s+", " ", visible(text)).strip()
