"""Everything that is looked at, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from . import cache, names, variables, versions, working
from .check import Check

GROUPS = (versions.GROUP, names.GROUP, cache.GROUP, variables.GROUP, working.PLATFORMS, working.WORKING)


def examine(directory: Path | None = None, *, quick: bool = False) -> Iterator[Check]:
    """All checks, each as soon as it is done; those of one group need not come together.

    directory: the cache to look at, if not the one that the environment names. quick: compile nothing.
    """
    yield from _guarded(versions.GROUP, versions.checks)
    yield from _guarded(names.GROUP, names.checks)
    yield from _guarded(cache.GROUP, lambda: cache.checks(directory))
    yield from _guarded(variables.GROUP, variables.checks)
    yield from working.checks(quick=quick)


def _guarded(group: str, checks: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """The checks of a group; where looking itself fails, that is what is found."""
    try:
        yield from checks()
    except Exception as error:  # noqa: BLE001 - one thing that cannot be looked at must not hide the others
        found = f"it cannot be looked at: {type(error).__name__}: {error}"
        yield Check(group, group.lower(), "error", found, "report it, with this output")
