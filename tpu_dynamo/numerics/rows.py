"""The findings of a check as tables and words."""

from __future__ import annotations

from collections.abc import Sequence

from .findings import CheckedGraph, CheckedResult, describe

GRAPH_COLUMNS = ("graph", "operators", "results", "worst", "of its bound", "verdict")
RESULT_COLUMNS = ("result", "dtype", "shape", "magnitude", "error", "bound", "eager's own", "verdict")


def verdict(graph: CheckedGraph) -> str:
    """Return what a check found of a graph, in a few words."""
    if graph.fault is not None:
        return "wrong"
    if graph.unchecked is not None:
        return "not checked"
    return "right but for ties" if graph.amplified else "right"


def graph_rows(graphs: Sequence[CheckedGraph]) -> list[tuple[str | int | float | None, ...]]:
    """Return a row of GRAPH_COLUMNS for each graph; `worst` is the result that is nearest to its bound, or beyond."""
    rows = []
    for graph in graphs:
        worst = max(graph.results, key=_share, default=None)
        share = None if worst is None else f"{_share(worst):.0%}" if _share(worst) < 100 else "beyond"
        name = None if worst is None else worst.name
        rows.append((graph.described, graph.operators, len(graph.results), name, share, verdict(graph)))
    return rows


def result_rows(graph: CheckedGraph) -> list[tuple[str, ...]]:
    """Return a row of RESULT_COLUMNS for each result of a graph."""
    rows = []
    for result in graph.results:
        found = result.comparison
        own = "" if found.own_error is None else f"{found.own_error:.2g}"
        figures = (f"{found.magnitude:.2g}", f"{found.error:.2g}", f"{found.bound:.2g}", own)
        if found.differing:
            figures = ("", f"{found.differing:,} differ", "", "")
        if found.nonfinite:
            figures = (figures[0], f"{found.nonfinite:,} nan or inf", *figures[2:])
        word = "right" if found.within else "beyond"
        rows.append((result.name, found.dtype, str(list(found.shape)), *figures, word))
    return rows


def in_words(graphs: Sequence[CheckedGraph]) -> str:
    """Return a line for each graph, with what is at fault, where nan comes from and why something was not checked."""
    lines = []
    for graph in graphs:
        lines.append(f"{graph.described}: {verdict(graph)}")
        if graph.fault is not None:
            beyond = [each for each in graph.results if not each.comparison.within]
            lines += [f"  {line}" for line in str(graph.fault).splitlines()]
            lines += [f"  {each.name}: {describe(each.comparison)}" for each in beyond[:3]]
        if graph.nonfinite is not None:
            lines += [f"  {line}" for line in str(graph.nonfinite).splitlines()]
        if graph.unchecked is not None:
            lines += [f"  {line}" for line in graph.unchecked.splitlines()]
    return "\n".join(lines) or "no graph was compiled"


def _share(result: CheckedResult) -> float:
    """Return how much of its bound a result's error takes, more than 100 where it is wrong in another way."""
    found = result.comparison
    if found.differing or found.nonfinite:
        return 1e6
    shares = [(found.error, found.bound), (found.largest, found.largest_bound)]
    return max((error / bound for error, bound in shares if bound), default=0.0)
