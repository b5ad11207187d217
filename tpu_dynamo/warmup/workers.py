"""The worker processes of a run, as the process sees them that gives out the cases; needs no torch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Pipe, wait
from typing import IO, Any

from .cases import Case

_LAST_LINES = 12
_TICK = 0.5


@dataclass
class Event:
    """Something that happened to a case.

    stage: it entered one; `start` when a worker took it. outcome: it ended. slot: the number of the worker. peak: bytes
    that the worker has had at most, with the outcome.
    """

    case: Case
    slot: int
    stage: str | None = None
    outcome: dict[str, Any] | None = None
    peak: int = 0


class Worker:
    """One worker process, started at once; it imports torch while something else is done.

    environment: variables of its own besides the process's.
    """

    def __init__(self, environment: Mapping[str, str]):
        self.case: Case | None = None
        self.deadline: float | None = None
        self.ready = False
        self._said_before = 0
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self.connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tpu_dynamo.warmup.worker", str(theirs.fileno())],
                env={
                    **os.environ,
                    **environment,
                    # Where this process finds its modules, that one does.
                    "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
                    "PYTHONUNBUFFERED": "1",
                },
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                # Ctrl-C is for this process, which ends that one.
                start_new_session=True,
            )

    @property
    def process(self) -> int:
        """The id of the process."""
        return self._process.pid

    def ask(self, request: Mapping[str, Any]) -> None:
        """Send a request; the answer is read by who waits for the connection."""
        self._said_before = os.fstat(self._log.fileno()).st_size
        self.connection.send_bytes(json.dumps(request).encode())

    def answer(self) -> dict[str, Any]:
        """The next answer. Raises EOFError or OSError when the process is gone."""
        return json.loads(self.connection.recv_bytes())

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End the process, which waits for nothing."""
        self.connection.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()
        self._log.close()

    def obituary(self) -> str:
        """How the process ended, and what it said last."""
        status = self._process.wait()
        how = f"ended with exit status {status}"
        if status < 0:
            name = signal.Signals(-status).name
            how = f"was killed by {name}"
            how += ", which is what the system does when memory runs out" if name == "SIGKILL" else ""
        said = "\n".join(f"    {line}" for line in self._said()[-_LAST_LINES:])
        return f"the worker process {how}" + (f"; its last words:\n{said}" if said else "")

    def _said(self) -> list[str]:
        """What the process wrote to its outputs since it was last asked, the end of it, line by line."""
        size = os.fstat(self._log.fileno()).st_size
        start = max(self._said_before, size - 65536)
        return os.pread(self._log.fileno(), size - start, start).decode(errors="replace").splitlines()


@dataclass
class Workers:
    """Gives out cases to at most `count` processes; a context manager that ends them.

    environment: variables of the processes besides ours. timeout: seconds for a
    case that does not say its own. clock: seconds that only go on.
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
                    worker.kill()
                worker.close()
        self._workers = []

    def processes(self) -> list[int]:
        """The ids of the processes that are alive."""
        return [worker.process for worker in self._workers if worker is not None]

    def cases_in(self, module: str, folders: Sequence[str], names: Sequence[str]) -> list[Case]:
        """The cases that decorated functions of a module say. Raises LookupError where the module cannot be used."""
        worker = self._workers[0] = self._workers[0] or Worker(self.environment)
        worker.ask({"module": module, "folders": list(folders), "names": list(names)})
        answer: dict[str, Any] = {}
        while not ("cases" in answer or "refused" in answer):
            try:
                answer = worker.answer()
            except (EOFError, OSError):
                raise LookupError(f"{module}: {worker.obituary()}") from None
            worker.ready = worker.ready or "ready" in answer
        if "refused" in answer:
            raise LookupError(answer["refused"])
        return [Case.from_dict(data) for data in answer["cases"]]

    def run(self, cases: Sequence[Case], *, checking: bool = False, push: bool = False) -> Iterator[Event]:
        """Do the cases, in their order as far as workers are free, and tell what happens; ends when all are done.

        A worker that dies, or takes longer than the timeout, fails its case. Nothing is given out any more once the
        iterator is closed.
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
        worker = self._workers[slot] = self._workers[slot] or Worker(self.environment)
        worker.case = case
        worker.deadline = None
        if worker.ready:
            self._set_deadline(worker)
        # A command gets the variables as they are: the worker's have been changed for its own sake.
        variables = {**os.environ, **self.environment} if case.command else None
        worker.ask({"case": case.as_dict(), "checking": checking, "push": push, "environment": variables})

    def _set_deadline(self, worker: Worker) -> None:
        seconds = (worker.case.timeout if worker.case else None) or self.timeout
        worker.deadline = self.clock() + seconds if seconds else None

    def _events(self) -> Iterator[Event]:
        busy = {w.connection: slot for slot, w in enumerate(self._workers) if w is not None and w.case is not None}
        for connection in wait(list(busy), _TICK):
            yield from self._heard(busy[connection])  # pyright: ignore[reportArgumentType]
        for slot, worker in enumerate(self._workers):
            if worker is not None and worker.deadline is not None and self.clock() > worker.deadline:
                seconds = (worker.case.timeout if worker.case else None) or self.timeout
                worker.kill()
                yield self._lost(slot, "timeout", f"it took longer than {seconds:g} s")

    def _heard(self, slot: int) -> Iterator[Event]:
        worker = self._workers[slot]
        if worker is None or worker.case is None:
            return
        try:
            answer = worker.answer()
        except (EOFError, OSError):
            yield self._lost(slot, "crashed", worker.obituary())
            return
        if "ready" in answer:
            worker.ready = True
            self._set_deadline(worker)
        elif "stage" in answer:
            yield Event(worker.case, slot, answer["stage"])
        else:
            case, worker.case, worker.deadline = worker.case, None, None
            yield Event(case, slot, outcome=answer["outcome"], peak=answer["peak"])

    def _lost(self, slot: int, kind: str, why: str) -> Event:
        """The end of a case whose worker is gone; the next case gets a new one."""
        worker = self._workers[slot]
        assert worker is not None and worker.case is not None
        worker.close()
        self._workers[slot] = None
        return Event(worker.case, slot, outcome={"state": "failed", "kind": kind, "why": why})
