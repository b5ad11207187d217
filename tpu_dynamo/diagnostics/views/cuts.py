"""The pieces into which breaks cut functions, for the page's picture of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tpu_dynamo.diagnostics.model import Break, FrameCompile, Report


@dataclass(frozen=True)
class Step:
    """One step through a function: a compile with its graphs, or a break; `depth` is how many breaks lead there."""

    compiled: FrameCompile | None
    broken: Break | None
    depth: int


@dataclass(frozen=True)
class CutFrame:
    """One function that the user's code calls, as the steps that it became."""

    function: str
    file: str
    line: int
    steps: tuple[Step, ...]

    @property
    def graphs(self) -> int:
        """The number of graphs that the function became."""
        return sum(step.compiled.graphs for step in self.steps if step.compiled)


def cut_frames(report: Report) -> list[CutFrame]:
    """Return the functions that breaks cut, those in most pieces first, without their recompiles."""
    first = [c for c in report.compiles if not c.recompile and c.outcome != "unfinished"]
    roots = [c for c in first if c.caused_by is None and c.resumes is None]
    frames = [
        CutFrame(root.function, root.file, root.line, tuple(_steps(root, first, report, set(), 0))) for root in roots
    ]
    return sorted((f for f in frames if any(s.broken for s in f.steps)), key=lambda f: -f.graphs)


def _steps(
    compiled: FrameCompile, compiles: list[FrameCompile], report: Report, seen: set[str], depth: int
) -> Iterator[Step]:
    if compiled.id in seen:
        return
    seen.add(compiled.id)
    yield Step(compiled, None, depth)
    identity = compiled.id.rsplit(":", 1)[-1]
    for broken in report.breaks:
        if identity not in broken.compiles or broken.fingerprint in seen:
            continue
        seen.add(broken.fingerprint)
        yield Step(None, broken, depth)
        for behind in compiles:
            if behind.caused_by == broken.fingerprint:
                yield from _steps(behind, compiles, report, seen, depth + 1)
