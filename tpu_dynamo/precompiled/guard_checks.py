"""Guards that cannot be written to disk, and the checks that replace them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ._torch_compat import GuardEntry, cannot_be_serialised
from .identity import Description, describe, find

# A guard's name, and the description of the object that it must lead to.
Check = tuple[str, Description]


class GuardFilter:
    """The guard filter of a compilation: it chooses the guards for the package, and turns the others into checks.

    checks: for each name the description of its object. problem: a guard that can be neither kept nor checked, so that
    the package would not be sound. Dynamo calls the filter once for each compilation of a frame.
    """

    def __init__(self) -> None:
        self.checks: dict[str, Description] = {}
        self.problem: str | None = None

    def __call__(self, guards: Sequence[GuardEntry]) -> list[bool]:
        left_out = {guard.orig_guard.name for guard in guards if cannot_be_serialised(guard)}
        # A guard on a part of a local object that is not in the package cannot be kept either.
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
    """Return the first check that does not hold, in words; None if all do."""
    for name, expected in checks.items():
        try:
            now = describe(find(name, scopes))
        except LookupError as why:
            return str(why)
        if now != expected:
            return f"{name} was {' '.join(expected[:3])}, now {' '.join((now or ['something else'])[:3])}"
    return None
