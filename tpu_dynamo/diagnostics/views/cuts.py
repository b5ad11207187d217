"""How breaks cut functions into graphs, as a picture shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tpu_dynamo.diagnostics.model import Break, Compile, Report


@dataclass(frozen=True)
class Step:
    """One step through a function: a compile with its graphs, or a break; `depth` is how many breaks lead there."""

    compiled: Compile | None
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
        """How many graphs it is."""
        return sum(step.compiled.graphs for step in self.steps if step.compiled)


def cut_frames(report: Report) -> list[CutFrame]:
    """The functions that breaks cut, those in most pieces first; compiles again are left out."""
    first = [c for c in report.compiles if not c.recompile and c.outcome != "unfinished"]
    roots = [c for c in first if c.caused_by is None and c.resumes is None]
    frames = [
        CutFrame(root.function, root.file, root.line, tuple(_steps(root, first, report, set(), 0))) for root in roots
    ]
    return sorted((f for f in frames if any(s.broken for s in f.steps)), key=lambda f: -f.graphs)


def _steps(compiled: Compile, compiles: list[Compile], report: Report, seen: set[str], depth: int) -> Iterator[Step]:
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
