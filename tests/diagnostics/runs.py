"""Runs under the report, and where their breaks should be."""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch._dynamo.utils import counters
from torch._logging._internal import TorchLogsFormatter

from tpu_dynamo.diagnostics import Diagnosis, diagnose


@dataclass
class Watched:
    """A run's report, what Dynamo counted over it, and its trace as TORCH_TRACE would have written it."""

    diagnosis: Diagnosis
    counters: dict[str, Counter[str]]
    trace: str

    @property
    def report(self):
        return self.diagnosis.report


@contextmanager
def tracing():
    """Return the text that TORCH_TRACE would write."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(TorchLogsFormatter(trace=True))
    logger = logging.getLogger("torch.__trace")
    logger.addHandler(handler)
    try:
        yield written
    finally:
        logger.removeHandler(handler)


def watch(work: Callable[[], Any]) -> Watched:
    """Run `work` from a clean state under the report."""
    torch._dynamo.reset()
    counters.clear()
    with warnings.catch_warnings(), tracing() as written, diagnose() as diagnosis:
        warnings.simplefilter("ignore")  # Dynamo's, about functions in C
        work()
    return Watched(diagnosis, {name: Counter(counts) for name, counts in counters.items()}, written.getvalue())


def compiled_call(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    return lambda: torch.compile(function, backend="eager")(*args)


def place_of(function: Callable[..., Any], text: str) -> tuple[str, int, int, int]:
    """File, line, first column and the column behind `text`, which stands once in the function."""
    lines, first = inspect.getsourcelines(function)
    ((number, line),) = [(n, line) for n, line in enumerate(lines, first) if text in line]
    column = line.index(text) + 1
    return inspect.getsourcefile(function), number, column, column + len(text)


def agrees_with_dynamo(watched: Watched) -> None:
    """The report's counts are Dynamo's own: graphs, compiles, frames left in eager, and breaks kind by kind."""
    report, counted = watched.report, watched.counters
    assert sum(c.graphs for c in report.compiles) == counted.get("stats", Counter())["unique_graphs"]
    frames = counted["frames"]
    left = sum(c.outcome in ("skipped", "failed") for c in report.compiles)
    assert left + sum(u.count for u in report.unrecorded) == frames["total"] - frames["ok"]
    cut, given_up = (_kinds(counted.get(category, {})) for category in ("graph_break", "unimplemented"))
    assert {b.gb_type for b in report.breaks} | {u.gb_type for u in report.unrecorded} == {*cut, *given_up}
    for found in report.breaks:
        if found.outcome != "skipped" and found.kind != "caused":
            same = [b for b in report.breaks if b.gb_type == found.gb_type]
            # A branch on data is counted among those given up, although the frame is cut there; and some of those
            # given up are what Dynamo tried before it gave up.
            met, certain = sum(b.met for b in same), cut[found.gb_type]
            assert max(certain, 1) <= met <= certain + given_up[found.gb_type], found.gb_type


def _kinds(messages: Mapping[str, int]) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for message, count in messages.items():
        kinds[message.split("\n")[0]] += count
    return +kinds  # without those that Dynamo took back
