"""The cost of breaks and recompiles: measured where the records have it, else estimated."""

from __future__ import annotations

from collections.abc import Sequence

from .attempts import Attempts
from .model import BreakCost, BreakOutcome, Quantity


def seconds_of(compiled: Attempts) -> float:
    """Return the seconds that a compile took in all."""
    return compiled.metrics.get("entire_frame_compile_time_s") or 0.0


def wasted_seconds(compiled: Attempts) -> float:
    """Return the seconds that a compile spent on attempts that Dynamo gave up."""
    if compiled.failed:
        return seconds_of(compiled)
    return compiled.metrics.get("dynamo_time_before_restart_s") or 0.0


def least_seconds(compiles: Sequence[Attempts]) -> float:
    """Return the seconds of the quickest compile with a graph, an estimate of what any graph costs at least."""
    return min((seconds_of(c) for c in compiles if c.graphs and not c.failed), default=0.0)


def cost_of(met: Sequence[Attempts], behind: Sequence[Attempts], outcome: BreakOutcome, least: float) -> BreakCost:
    """Return the cost of one break.

    met: the compiles that met it. behind: the compiles that it caused. least: what any graph costs, in seconds.
    """
    graphs = [compiled for compiled in behind if compiled.graphs]
    compiling = sum(map(seconds_of, behind))
    retracing = 0.0
    for compiled in {id(c): c for c in met}.values():
        # Several breaks of one compile share what it threw away.
        retracing += wasted_seconds(compiled) / max(1, len({m.attempt for m in compiled.met}))
    names = ", ".join(compiled.id for compiled in behind) or "none"
    # Attempts that a compile behind the break gave up are the cost of the next break.
    kept = [(c, seconds_of(c) - wasted_seconds(c)) for c in behind]
    saving = retracing + sum(min(seconds, least) if c.graphs else seconds for c, seconds in kept)
    return BreakCost(
        extra_graphs=Quantity(len(graphs), "graphs", True, f"graphs of the compiles behind the break: {names}"),
        compile_time=Quantity(
            compiling, "s", True, f"entire_frame_compile_time_s of the compiles behind the break: {names}"
        ),
        retrace_time=Quantity(
            retracing,
            "s",
            True,
            "the whole compile, which gave nothing" if outcome == "skipped" else "dynamo_time_before_restart_s",
        ),
        saving=Quantity(
            saving,
            "s",
            False,
            "what was traced in vain, and for each graph more the least time that a graph of this run took",
        ),
        bytes_crossing=_crossing(behind),
    )


def _crossing(behind: Sequence[Attempts]) -> Quantity | None:
    """Return the bytes that the first graph behind the break takes from before it, parameters not counted; or None."""
    for compiled in behind:
        if compiled.resumes is not None and compiled.graphs and compiled.inputs:
            names = ", ".join(compiled.inputs)
            return Quantity(
                sum(compiled.inputs.values()),
                "B",
                False,
                f"each call, if all of it moves: shapes and dtypes of the tensors {names} that the next graph takes",
            )
    return None
