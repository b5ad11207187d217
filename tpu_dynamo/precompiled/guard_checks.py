"""Guards that cannot leave their process, and the checks that take their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ._torch_compat import GuardEntry, cannot_be_serialised
from .identity import Description, describe, find

# A guard's name, and what it must lead to.
Check = tuple[str, Description]


class GuardFilter:
    """Tells Dynamo which guards to keep in a package, and notes the others as checks.

    problem: why the package would not be sound: a guard that is neither kept nor can be checked. Dynamo calls the
    filter once for each compilation of a frame.
    """

    def __init__(self) -> None:
        self.checks: dict[str, Description] = {}
        self.problem: str | None = None

    def __call__(self, guards: Sequence[GuardEntry]) -> list[bool]:
        left_out = {guard.orig_guard.name for guard in guards if cannot_be_serialised(guard)}
        # What hangs from a local object that is not written into the package cannot be guarded there either.
        roots = tuple(name for name in left_out if name.startswith("L["))
        kept = []
        for guard in guards:
            name = guard.orig_guard.name
            keep = name not in left_out and not any(root in name for root in roots)
            if not keep:
                self._note(name, guard)
            kept.append(keep)
        return kept

    def _note(self, name: str, guard: GuardEntry) -> None:
        if guard.guard_type == "SEQUENCE_LENGTH":
            name, value = f"len({name})", len(guard.value)
        elif guard.guard_type == "TYPE_MATCH":
            name, value = f"type({name})", type(guard.value)
        else:
            value = guard.value
        description = describe(value) if guard.has_value else None
        if description is None:
            self.problem = self.problem or f"a {guard.guard_type} guard on {name}"
        else:
            self.checks[name] = description


def first_difference(checks: Mapping[str, Description], scopes: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The first check that does not hold, in words; None where all do."""
    for name, expected in checks.items():
        try:
            now = describe(find(name, scopes))
        except LookupError as why:
            return str(why)
        if now != expected:
            return f"{name} was {' '.join(expected[:3])}, now {' '.join((now or ['something else'])[:3])}"
    return None
