"""Watching a run in this process: `with tpu_dynamo.diagnose() as report:`."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _torch_compat
from .trace_files import Trace
from .trace_records import kind_of, record_from

if TYPE_CHECKING:
    from tpu_dynamo.statistics import Snapshot

    from .build_report import RunCounts
    from .model import Break, Recompile, Report

_TRACE = "torch.__trace"


class Collector(logging.Handler):
    """A log handler that keeps the records that a report reads and counts the others."""

    # forms_are_read() asks for this: the forms of graphs are large, and a report does not read them.
    reads_forms = False

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.trace = Trace(processes=["this process"])

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record, with the columns of the exception that Dynamo is handling, if any."""
        metadata: Mapping[str, Any] | None = getattr(record, "metadata", None)
        if metadata is None:
            return
        self.trace.count(kind_of(metadata))
        positions = _torch_compat.position_of(sys.exc_info()[1])
        kept = record_from(metadata, getattr(record, "payload", None), positions=positions)
        if kept is not None:
            self.trace.records.append(kept)


@dataclass
class Diagnosis:
    """A run that `diagnose()` watches or has watched; the report is built when it is first asked for after the run.

    seconds: how long the run took. counted: what Dynamo and this backend counted over it. recompile_limit: Dynamo's at
    the end of the run.
    """

    trace: Trace
    seconds: float | None = None
    counted: RunCounts | None = field(default=None, repr=False)
    recompile_limit: int = 0

    @cached_property
    def report(self) -> Report:
        """The report on the run, as plain data. Raises RuntimeError inside of the `with` block."""
        if self.seconds is None:
            raise RuntimeError("the report is ready when the `with tpu_dynamo.diagnose()` block is left")
        from tpu_dynamo.artifacts import versions

        from .build_report import build_report
        from .model import ReportedRun

        ranks = tuple(sorted({r.rank for r in self.trace.records if r.rank is not None}))
        run = ReportedRun(
            "this process", versions(), tuple(sys.argv), ranks, 1, self.seconds, self.trace.total,
            dict(self.trace.unknown),
        )  # fmt: skip
        return build_report(self.trace, run, self.recompile_limit, self.counted)

    @property
    def breaks(self) -> tuple[Break, ...]:
        """The graph breaks, the costliest first."""
        return self.report.breaks

    @property
    def recompiles(self) -> tuple[Recompile, ...]:
        """The causes of recompiles, the costliest first."""
        return self.report.recompiles

    def save(self, path: str | Path) -> Path:
        """Write the report in the form that the suffix names: `.json`, `.html`, `.sarif` or `.txt`."""
        from .report_files import write

        return write(self.report, Path(path), Path(path).suffix)

    def __str__(self) -> str:
        from .views.terminal import as_text

        return as_text(self.report)

    def _repr_html_(self) -> str:
        """Return the report's page for a notebook, in a frame of its own, so that neither's styles reach the other."""
        if self.seconds is None:
            return "<p>the report is ready when the <code>with tpu_dynamo.diagnose()</code> block is left</p>"
        from html import escape

        from .views.html import as_html

        page = escape(as_html(self.report), quote=True)
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 40em; border: 0" sandbox="allow-scripts"></iframe>'


@contextlib.contextmanager
def diagnose() -> Iterator[Diagnosis]:
    """Watch everything that torch.compile does within the block, with whatever backend; nothing is run twice.

    Compiles of before the block are not seen. The report is there when the block is left, also by an exception.
    """
    collector = Collector()
    diagnosis = Diagnosis(collector.trace)
    logger = logging.getLogger(_TRACE)
    counts = _start_counting()
    started = time.perf_counter()
    logger.addHandler(collector)
    try:
        yield diagnosis
    finally:
        logger.removeHandler(collector)
        diagnosis.counted = counts()
        diagnosis.recompile_limit = _torch_compat.recompile_limit()
        diagnosis.seconds = time.perf_counter() - started


def _start_counting() -> Callable[[], RunCounts]:
    """Return a function that returns what was counted between this call and its own."""
    from tpu_dynamo.session import session, stats

    breaks, ours, padded = _torch_compat.break_counts(), stats(), session().statistics.padded_calls()

    def counted() -> RunCounts:
        from .build_report import RunCounts

        now: Snapshot = stats()
        calls = _more(now.operator_calls, ours.operator_calls)
        costs = {
            name: (
                now.operator_bytes[name] - ours.operator_bytes.get(name, 0),
                now.operator_seconds[name] - ours.operator_seconds.get(name, 0.0),
            )
            for name in calls
        }
        return RunCounts(
            _more(_torch_compat.break_counts(), breaks),
            _more(now.cache_hits, ours.cache_hits),
            _more(now.cache_misses, ours.cache_misses),
            _more(now.fallbacks, ours.fallbacks),
            calls,
            costs,
            {
                key: {**found, "calls": calls}
                for key, found in session().statistics.padded_calls().items()
                if (calls := found["calls"] - padded.get(key, {"calls": 0})["calls"]) > 0
            },
        )

    return counted


def _more(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {name: count - before.get(name, 0) for name, count in now.items() if count > before.get(name, 0)}
