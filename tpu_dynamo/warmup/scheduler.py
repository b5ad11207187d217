"""A warmup run: the cases of a manifest are given to workers, and their results are collected."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .cases import Case
from .ledger import Ledger, remaining
from .workers import Event, Workers


@dataclass(frozen=True)
class Result:
    """The result of a case.

    state: `made`, `found` (all of it was in the cache), `missing` (a check found less), `failed`, `skipped` (an
    earlier run did it) or `left` (it was not begun, or not finished). outcome: a CaseOutcome as the worker sent it.
    peak: the most bytes of memory that the worker has had until then, 0 where that is not known.
    """

    case: Case
    state: str
    seconds: float = 0.0
    outcome: dict[str, Any] = field(default_factory=dict)
    peak: int = 0

    @property
    def why(self) -> str:
        """The reason of a failure, or what is missing, one sentence a line."""
        return str(self.outcome.get("why") or "") or "\n".join(self.outcome.get("missing", ()))

    @property
    def kind(self) -> str:
        """Of a failure: `usage`, `environment`, `failed`, `crashed` or `timeout`."""
        return str(self.outcome.get("kind") or "")


@dataclass
class WarmupRun:
    """The cases of one run in order, and their results so far.

    checking: nothing is made; what is missing is reported. resume: cases that earlier runs finished are skipped.
    fail_fast: the first failure ends the run. push: entries that are made go into the remote tier too, whose URL is
    `remote`.
    """

    cases: Sequence[Case]
    directory: Path
    jobs: int = 1
    checking: bool = False
    resume: bool = False
    fail_fast: bool = False
    push: bool = False
    remote: str = ""
    results: dict[str, Result] = field(default_factory=dict, init=False)
    running: dict[str, float] = field(default_factory=dict, init=False)
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.directory, self.remote if self.push else "")
        if self.resume and not self.checking:
            self.results = {c.name: Result(c, "skipped") for c in self.cases if self.ledger.is_done(c)}

    @property
    def waiting(self) -> list[Case]:
        """The cases that have no result yet."""
        return [case for case in self.cases if case.name not in self.results]

    def remaining(self) -> float | None:
        """Estimate the seconds until the end from earlier runs and this one; None where nothing is known."""
        took = [result.seconds for result in self.results.values() if result.state in ("made", "found")]
        mean = sum(took) / len(took) if took else None
        spent = {name: self.clock() - since for name, since in self.running.items()}
        return remaining(self.ledger, self.waiting, spent, self.jobs, mean)

    def run_cases(self, workers: Workers) -> Iterator[Event]:
        """Run the waiting cases, and yield each event. Raises OSError where the ledger cannot be written."""
        for event in workers.run(self.waiting, checking=self.checking, push=self.push):
            # A worker's own start does not count: it is needed once, and not for each case.
            if event.stage in ("start", "build", "run"):
                self.running[event.case.name] = self.clock()
            if event.outcome is not None:
                seconds = self.clock() - self.running.pop(event.case.name)
                self._note(event, event.outcome, seconds)
            yield event
            if self.fail_fast and event.outcome is not None and event.outcome["state"] in ("failed", "missing"):
                return

    def _note(self, event: Event, outcome: dict[str, Any], seconds: float) -> None:
        self.results[event.case.name] = Result(event.case, outcome["state"], seconds, outcome, event.peak)
        if not self.checking:
            self.ledger.note(event.case, outcome, seconds)

    def ended(self) -> list[Result]:
        """Return a result for each case, in their order; those that were not finished are `left`."""
        return [self.results.get(case.name) or Result(case, "left") for case in self.cases]


def as_data(results: Sequence[Result], *, checking: bool, seconds: float) -> dict[str, Any]:
    """Return the results of a run as plain data, for `--json` and the report."""
    return {
        "schema": 1,
        "check": checking,
        "seconds": round(seconds, 2),
        "cases": [
            {
                "name": result.case.name,
                "model": result.case.model,
                "mode": result.case.mode,
                "target": result.case.target,
                "state": result.state,
                "seconds": round(result.seconds, 2),
                "worker_peak_bytes": result.peak or None,
                "stages": result.outcome.get("seconds", {}),
                "graphs": result.outcome.get("graphs", []),
                "lowerings": result.outcome.get("lowerings", 0),
                "xla_compiles": result.outcome.get("xla_compiles", 0),
                "kind": result.kind or None,
                "why": result.outcome.get("why") or None,
                "missing": result.outcome.get("missing", []),
                "notes": result.outcome.get("notes", []),
            }
            for result in results
        ],
    }
