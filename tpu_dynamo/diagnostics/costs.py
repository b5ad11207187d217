"""What breaks and recompiles cost, measured where the records have it."""

from __future__ import annotations

from collections.abc import Sequence

from .attempts import Attempts
from .model import Cost, Figure, Outcome


def seconds_of(compiled: Attempts) -> float:
    """The time that a compile took, all of it."""
    return compiled.metrics.get("entire_frame_compile_time_s") or 0.0


def thrown_away(compiled: Attempts) -> float:
    """The time that a compile spent on attempts that it gave up."""
    if compiled.failed:
        return seconds_of(compiled)
    return compiled.metrics.get("dynamo_time_before_restart_s") or 0.0


def least_of(compiles: Sequence[Attempts]) -> float:
    """The least time that a compile with a graph took: what a graph costs however small it is."""
    return min((seconds_of(c) for c in compiles if c.graphs and not c.failed), default=0.0)


def cost_of(met: Sequence[Attempts], behind: Sequence[Attempts], outcome: Outcome, least: float) -> Cost:
    """The cost of one break: of the compiles that met it, and of those that would not be but for it."""
    graphs = [compiled for compiled in behind if compiled.graphs]
    compiling = sum(map(seconds_of, behind))
    retracing = 0.0
    for compiled in {id(c): c for c in met}.values():
        # Several breaks of one compile share what it threw away.
        retracing += thrown_away(compiled) / max(1, len({m.attempt for m in compiled.met}))
    names = ", ".join(compiled.id for compiled in behind) or "none"
    # What a compile behind the break threw away is the next break's.
    kept = [(c, seconds_of(c) - thrown_away(c)) for c in behind]
    saving = retracing + sum(min(seconds, least) if c.graphs else seconds for c, seconds in kept)
    return Cost(
        extra_graphs=Figure(len(graphs), "graphs", True, f"graphs of the compiles behind the break: {names}"),
        compile_time=Figure(
            compiling, "s", True, f"entire_frame_compile_time_s of the compiles behind the break: {names}"
        ),
        retrace_time=Figure(
            retracing,
            "s",
            True,
            "the whole compile, which gave nothing" if outcome == "skipped" else "dynamo_time_before_restart_s",
        ),
        saving=Figure(
            saving,
            "s",
            False,
            "what was traced in vain, and for each graph more the least time that a graph of this run took",
        ),
        bytes_crossing=_crossing(behind),
    )


def _crossing(behind: Sequence[Attempts]) -> Figure | None:
    """The tensors that the first graph behind the break takes from before it; parameters are not among them."""
    for compiled in behind:
        if compiled.resumes is not None and compiled.graphs and compiled.inputs:
            names = ", ".join(compiled.inputs)
            return Figure(
                sum(compiled.inputs.values()),
                "B",
                False,
                f"each call, if all of it moves: shapes and dtypes of the tensors {names} that the next graph takes",
            )
    return None
