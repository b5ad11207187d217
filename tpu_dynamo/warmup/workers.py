"""The worker processes of a run, for the process that hands out the cases; needs no torch."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any

from tpu_dynamo_runtime.worker_process import WorkerEnded, WorkerProcess

from .cases import Case

# Between two looks at the deadlines; nothing waits longer because of it.
_SECONDS_BETWEEN_LOOKS = 0.5


@dataclass
class Event:
    """Something that happened to a case.

    stage: the one that it entered, `start` when a worker took it. outcome: a CaseOutcome as data, when it ended. slot:
    the number of the worker. peak: with the outcome, the most bytes of memory that the worker has had.
    """

    case: Case
    slot: int
    stage: str | None = None
    outcome: dict[str, Any] | None = None
    peak: int = 0


class Worker:
    """One worker process, started at once, and the case that it has; it imports torch while something else is done.

    environment: variables of its own besides those of this process.
    """

    def __init__(self, environment: Mapping[str, str]):
        self.case: Case | None = None
        self.deadline: float | None = None
        self.ready = False
        self.process = WorkerProcess(
            "the worker process", ["-m", "tpu_dynamo.warmup.worker"], {**os.environ, **environment}
        )


@dataclass
class Workers:
    """At most `count` worker processes that cases are handed to; a context manager that ends them.

    environment: variables of the processes besides those of this one. timeout: seconds for a case that has none of its
    own. clock: seconds that never go back.
    """

    count: int
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    clock: Callable[[], float] = time.monotonic
    _workers: list[Worker | None] = field(default_factory=list, init=False)

    def __enter__(self) -> Workers:
        self._workers = [None] * self.count
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for worker in self._workers:
            if worker is not None:
                if kind is not None or worker.case is not None:
                    worker.process.kill()
                worker.process.close()
        self._workers = []

    def processes(self) -> list[int]:
        """Return the ids of the worker processes."""
        return [worker.process.pid for worker in self._workers if worker is not None]

    def cases_in(self, module: str, folders: Sequence[str], names: Sequence[str]) -> list[Case]:
        """Return the cases of a module's decorated functions. Raises LookupError where the module cannot be used."""
        worker = self._workers[0] = self._workers[0] or Worker(self.environment)
        answer: dict[str, Any] = {}
        try:
            worker.process.send({"module": module, "folders": list(folders), "names": list(names)})
            while not ("cases" in answer or "refused" in answer):
                answer = worker.process.receive()
                worker.ready = worker.ready or "ready" in answer
        except WorkerEnded as ended:
            raise LookupError(f"{module}: {ended}") from None
        if "refused" in answer:
            raise LookupError(answer["refused"])
        return [Case.from_dict(data) for data in answer["cases"]]

    def run(self, cases: Sequence[Case], *, checking: bool = False, push: bool = False) -> Iterator[Event]:
        """Run the cases, in their order as workers become free, and yield events until all have ended.

        A worker that dies, or takes longer than the timeout, fails its case. Once the iterator is closed, no further
        case is handed out.
        """
        waiting = list(reversed(cases))
        while waiting or any(worker is not None and worker.case is not None for worker in self._workers):
            for slot in range(self.count):
                if waiting and self._is_free(slot):
                    case = waiting.pop()
                    self._give(slot, case, checking, push)
                    yield Event(case, slot, "start")
            yield from self._events()

    def _is_free(self, slot: int) -> bool:
        worker = self._workers[slot]
        return worker is None or worker.case is None

    def _give(self, slot: int, case: Case, checking: bool, push: bool) -> None:
        worker = self._workers[slot]
        if worker is not None and worker.process.has_ended():
            worker.process.close()
            worker = None
        worker = self._workers[slot] = worker or Worker(self.environment)
        worker.case = case
        worker.deadline = None
        if worker.ready:
            self._set_deadline(worker)
        # A command gets the variables as they are: the worker's have been changed for its own sake.
        variables = {**os.environ, **self.environment} if case.command else None
        # If it ends just now, `_receive_from` finds out and fails the case.
        with contextlib.suppress(WorkerEnded):
            worker.process.send({"case": case.as_dict(), "checking": checking, "push": push, "environment": variables})

    def _set_deadline(self, worker: Worker) -> None:
        seconds = (worker.case.timeout if worker.case else None) or self.timeout
        worker.deadline = self.clock() + seconds if seconds else None

    def _events(self) -> Iterator[Event]:
        busy = {
            worker.process.connection: slot
            for slot, worker in enumerate(self._workers)
            if worker is not None and worker.case is not None
        }
        for connection in wait(list(busy), _SECONDS_BETWEEN_LOOKS):
            yield from self._receive_from(busy[connection])  # pyright: ignore[reportArgumentType]
        for slot, worker in enumerate(self._workers):
            if worker is not None and worker.deadline is not None and self.clock() > worker.deadline:
                seconds = (worker.case.timeout if worker.case else None) or self.timeout
                worker.process.kill()
                yield self._fail_case(slot, "timeout", f"it took longer than {seconds:g} s")

    def _receive_from(self, slot: int) -> Iterator[Event]:
        worker = self._workers[slot]
        if worker is None or worker.case is None:
            return
        try:
            answer = worker.process.receive()
        except WorkerEnded as ended:
            yield self._fail_case(slot, "crashed", str(ended))
            return
        if "ready" in answer:
            worker.ready = True
            self._set_deadline(worker)
        elif "stage" in answer:
            yield Event(worker.case, slot, answer["stage"])
        else:
            case, worker.case, worker.deadline = worker.case, None, None
            yield Event(case, slot, outcome=answer["outcome"], peak=answer["peak"])

    def _fail_case(self, slot: int, kind: str, why: str) -> Event:
        """Give up the case of a worker that is gone; return the event. The next case gets a new worker."""
        worker = self._workers[slot]
        assert worker is not None and worker.case is not None
        worker.process.close()
        self._workers[slot] = None
        return Event(worker.case, slot, outcome={"state": "failed", "kind": kind, "why": why})
