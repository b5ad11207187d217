"""Finds the fix for a graph break."""

from __future__ import annotations

import re

from .fixes import FIXES
from .messages import BreakMessage
from .model import Advice, BreakOutcome

_AROUND = {
    "skipped": " Tracing cannot go on behind this break (as inside of a loop or a generator), so all of the function "
    "runs in eager: it gains most.",
    "partial": " Tracing cannot go on behind this break (as inside of a `try`), so the rest of the function runs in "
    "eager: it gains most.",
}


def advice_for(code: str | None, message: BreakMessage, outcome: BreakOutcome) -> Advice | None:
    """Return the first fix whose code, message and line fit a break; None where none does."""
    line = message.stack[-1].text if message.stack else ""
    words = "\n".join((message.first.explanation, message.first.context))
    for fix in FIXES:
        if fix.code == code and re.search(fix.message, words) and re.search(fix.line, line):
            text = fix.text + _AROUND.get(outcome, "")
            return Advice(fix.title, text, fix.before, fix.after)
    return None
