"""Threads of this process that compile ahead: work in a queue, done while other threads serve calls."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

from .._torch_compat import compile_lock


class Task:
    """One piece of work, done by a thread of the queue or by whoever needs it first.

    done: set once a thread of the queue has ended it, well or not.
    """

    def __init__(self, work: Callable[[], None]):
        self.work = work
        self.done = threading.Event()
        self._claim = threading.Lock()

    def claim(self) -> bool:
        """Take the work on; False if a thread of the queue has."""
        return self._claim.acquire(blocking=False)


class AheadQueue:
    """Tasks in their order, and at most as many threads as the latest `submit` says; they end with the last task.

    When the interpreter ends, what runs is finished and nothing else is begun. A forked child has no threads and no
    tasks; a fork waits for the lowering that is going on, whose lock would never be free in the child.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Task] = deque()
        self._running: set[Task] = set()
        self._threads = 0
        self._watching = False

    def submit(self, task: Task, threads: int) -> None:
        """Add a task, which must not raise. threads: how many may run."""
        with self._lock:
            self._watch_forks()
            self._waiting.append(task)
            if self._threads < threads:
                self._threads += 1
                threading.Thread(target=self._run, name="tpu_dynamo compile_ahead").start()

    def _run(self) -> None:
        while (task := self._next()) is not None:
            try:
                task.work()
            finally:
                task.done.set()
                with self._lock:
                    self._running.discard(task)

    def _next(self) -> Task | None:
        with self._lock:
            while self._waiting and threading.main_thread().is_alive():
                task = self._waiting.popleft()
                if task.claim():
                    self._running.add(task)
                    return task
            self._threads -= 1
            return None

    def _watch_forks(self) -> None:
        if not self._watching:
            self._watching = True
            os.register_at_fork(
                before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._after_fork_in_child
            )

    def _before_fork(self) -> None:
        compile_lock.acquire()
        self._lock.acquire()

    def _after_fork(self) -> None:
        self._lock.release()
        compile_lock.release()

    def _after_fork_in_child(self) -> None:
        for task in self._running:
            task.done.set()
        self._waiting.clear()
        self._running.clear()
        self._threads = 0
        self._after_fork()


_queue = AheadQueue()


def ahead_queue() -> AheadQueue:
    """Return the process's queue."""
    return _queue
