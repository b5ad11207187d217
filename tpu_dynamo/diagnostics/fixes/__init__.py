"""The fixes of the common graph breaks, by what the code does there."""

from .calls import CALLS
from .effects import EFFECTS
from .pattern import Fix
from .quantised import QUANTISED
from .values import VALUES

# Ordered: of two that fit a break, the first is taken; those of C functions in general come last.
FIXES: tuple[Fix, ...] = (*VALUES, *EFFECTS, *QUANTISED, *CALLS)

__all__ = ["FIXES", "Fix"]
