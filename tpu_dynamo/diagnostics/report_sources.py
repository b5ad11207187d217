"""Reports on runs of other processes: saved ones, traces, and commands that are run for it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..activated import activated
from ._torch_compat import recompile_limit
from .build_report import build_report
from .model import Report, ReportedRun
from .trace_files import NotATrace, Trace, read_trace
from .views.json_file import NotAReport, read_json


class Unreadable(ValueError):
    """A path that is neither a report nor a trace, or a command that cannot be run."""


def read_report(path: Path) -> Report:
    """Read a report from a JSON file, or build it from a trace's file or folder. Raises Unreadable."""
    try:
        if path.is_file() and _starts_as_json(path):
            return read_json(path)
        return _report_on(read_trace(path), str(path))
    except (NotATrace, NotAReport) as error:
        raise Unreadable(str(error)) from None


def run_and_read(command: Sequence[str]) -> tuple[Report, int]:
    """Run a command, and all processes that it starts, with TORCH_TRACE set; return the report and the exit code.

    Raises Unreadable where there is no such command.
    """
    with tempfile.TemporaryDirectory(prefix="tpu_dynamo-trace-") as folder:
        try:
            environment = activated({**os.environ, "TORCH_TRACE": folder})
            status = subprocess.run(list(command), env=environment, check=False).returncode
        except OSError as error:
            raise Unreadable(f"{command[0]}: {error.strerror}") from None
        try:
            trace = read_trace(Path(folder))
        except NotATrace:
            trace = Trace()  # nothing was compiled
        # A process ended by a signal has a negative code; shells say 128 and the signal.
        return _report_on(trace, "a command", tuple(command)), status if status >= 0 else 128 - status


def _report_on(trace: Trace, source: str, command: tuple[str, ...] = ()) -> Report:
    metrics = next((r.data for r in trace.records if r.kind == "compilation_metrics" and isinstance(r.data, dict)), {})
    versions = {
        "torch": metrics.get("pytorch_version"),
        "python": str(metrics.get("python_version") or "").split(" ")[0],
    }
    run = ReportedRun(
        source=source,
        versions={name: version for name, version in versions.items() if version},
        command=command,
        ranks=tuple(sorted({r.rank for r in trace.records if r.rank is not None})),
        processes=len(trace.processes),
        records=trace.total,
        unknown_records=dict(trace.unknown),
        damaged=trace.damaged,
    )
    return build_report(trace, run, recompile_limit())


def _starts_as_json(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).lstrip().startswith(b"{")
