"""What to change so that a break goes away."""

from __future__ import annotations

import re

from .fixes import FIXES
from .messages import BreakMessage
from .model import Advice, Outcome

_AROUND = {
    "skipped": " Tracing cannot go on behind this break (as inside of a loop or a generator), so all of the function "
    "runs in eager: it gains most.",
    "partial": " Tracing cannot go on behind this break (as inside of a `try`), so the rest of the function runs in "
    "eager: it gains most.",
}


def advice_for(code: str | None, message: BreakMessage, outcome: Outcome) -> Advice | None:
    """The first fix that fits a break, by its code, its message and its line; None where we know of none."""
    line = message.stack[-1].text if message.stack else ""
    told = "\n".join((message.first.explanation, message.first.context))
    for fix in FIXES:
        if fix.code == code and re.search(fix.message, told) and re.search(fix.line, line):
            text = fix.text + _AROUND.get(outcome, "")
            return Advice(fix.title, text, fix.before, fix.after)
    return None
