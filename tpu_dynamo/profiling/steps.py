"""The steps of a run: they begin where the caller says, else with each call of the graph that a step begins with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .host_time import Moments
from .programs import EAGER, RanProgram
from .recording import Recording


def step_starts(recording: Recording, programs: Sequence[RanProgram], moments: Moments) -> list[int]:
    """Return the times at which steps begin, in nanoseconds since the epoch; at least one.

    moments: the host's, of which a step's first ones are the guards and the dispatch of its first graph.
    """
    if recording.marks:
        return [recording.begin, *(mark for mark in recording.marks[:-1])]
    names = [programs[each.program].graph for each in recording.executions]
    first = _first_graph(names)
    starts = [recording.begin if first is None else 0]
    if first is not None:
        prepared: dict[int, int] = {}
        for each in moments:
            if each.about.execution is not None:
                prepared.setdefault(each.about.execution, each.start)
        starts = [
            min(each.start, prepared.get(number, each.start))
            for number, each in enumerate(recording.executions)
            if names[number] == first
        ]
    return starts


def _first_graph(names: Sequence[str]) -> str | None:
    """Return the graph that steps begin with, of the names of executed graphs in order; None without graphs.

    That is the graph of `train_step`; else the first forward graph of those that ran the most; else, of graphs without
    gradients that ran more than once, the first of those that ran the least, since the others may run several times in
    a step.
    """
    counts = Counter(name for name in names if name != EAGER)
    for role in ("step", "forward"):
        alike = {name: count for name, count in counts.items() if name.startswith(role)}
        if alike:
            return max(alike, key=lambda name: alike[name])
    repeated = {name: count for name, count in counts.items() if count > 1} or counts
    return min(repeated, key=lambda name: repeated[name], default=None)
