"""Everything that is looked at, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from . import cache_directory, entry_points, trial_results, variables, versions
from .check import Check

GROUPS = (
    versions.GROUP,
    entry_points.GROUP,
    cache_directory.GROUP,
    variables.GROUP,
    trial_results.PLATFORMS,
    trial_results.WORKING,
)


def examine(directory: Path | None = None, *, quick: bool = False) -> Iterator[Check]:
    """Make all checks and yield each as soon as it is done; those of one group need not come together.

    directory: the cache to look at, if not the one that the environment names. quick: compile nothing.
    """
    yield from _guarded(versions.GROUP, versions.checks)
    yield from _guarded(entry_points.GROUP, entry_points.checks)
    yield from _guarded(cache_directory.GROUP, lambda: cache_directory.checks(directory))
    yield from _guarded(variables.GROUP, variables.checks)
    yield from trial_results.checks(quick=quick)


def _guarded(group: str, checks: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """Make the checks of a group; where that itself raises, yield an error that says so."""
    try:
        yield from checks()
    except Exception as error:  # noqa: BLE001 - one thing that cannot be looked at must not hide the others
        found = f"it cannot be looked at: {type(error).__name__}: {error}"
        yield Check(group, group.lower(), "error", found, "report it, with this output")
