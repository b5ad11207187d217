"""One line on stderr for a compile that lasts, or for many, so that nobody has to ask whether the program hangs."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .formatting import format_duration

log = logging.getLogger("tpu_dynamo")

# A compile shorter than this is not worth a line.
_SECONDS = 3.0
# Operators that are compiled with less time between them are one burst.
_PAUSE = 1.0
# Several threads may compile; one of them has the line, and the others are silent.
_line = threading.Lock()


@contextmanager
def showing_progress(describe: Callable[[], str]) -> Iterator[None]:
    """Say on stderr what the context does if it lasts longer than 3 seconds, and end the line when it is done.

    describe: what is said, as `compiling forward of Model.forward (model.py:12)`; called once, in another thread. Says
    nothing where `progress_wanted` says so.
    """
    operators.end()
    if not progress_wanted() or not _line.acquire(blocking=False):
        yield
        return
    started = time.perf_counter()
    shown = threading.Event()
    watch = threading.Timer(_SECONDS, _show, (describe, shown))
    watch.daemon = True
    watch.start()
    outcome = "failed after"
    try:
        yield
        outcome = "done in"
    finally:
        watch.cancel()
        # A line that is being written right now is written to its end.
        watch.join()
        if shown.is_set():
            _write(f" {outcome} {format_duration(time.perf_counter() - started)}\n")
        _line.release()


class Burst:
    """Eager operators that are compiled one after the other, each of them soon, all of them together not.

    After 3 seconds one line counts them; it ends when none was compiled for a second, or a graph is.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._pause: threading.Timer | None = None
        self._count = 0
        self._shown = False
        self._started = self._last = 0.0

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """Count the operator that is compiled in the context."""
        if not progress_wanted():
            yield
            return
        with self._lock:
            self._continue()
        try:
            yield
        finally:
            with self._lock:
                self._last = time.perf_counter()
                self._pause = threading.Timer(_PAUSE, self.end)
                self._pause.daemon = True
                self._pause.start()

    def _continue(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._started = self._started if self._count else time.perf_counter()
        self._count += 1
        if time.perf_counter() - self._started < _SECONDS:
            return
        if not self._shown and _line.acquire(blocking=False):
            self._shown = True
            atexit.register(self.end)
        if self._shown:
            _write(f"\rtpu_dynamo: compiling eager operators: {self._count} so far ...")

    def end(self) -> None:
        """End the line, if there is one."""
        with self._lock:
            if self._pause is not None:
                self._pause.cancel()
            if self._shown:
                _write(f" done in {format_duration(self._last - self._started)}\n")
                _line.release()
                atexit.unregister(self.end)
            self._count, self._shown, self._pause = 0, False, None


operators = Burst()


def progress_wanted() -> bool:
    """Return True where a line should be shown: on a terminal, unless TPU_DYNAMO_PROGRESS (`on`, `off`) says otherwise.

    Logs a warning for a value that is neither.
    """
    asked = os.environ.get("TPU_DYNAMO_PROGRESS", "").strip().lower()
    if asked in ("1", "on", "true"):
        return True
    if asked in ("0", "off", "false"):
        return False
    if asked:
        log.warning("TPU_DYNAMO_PROGRESS=%r means nothing: on or off; as if it was not set", asked)
    # A program without a console has no stderr at all.
    return sys.stderr is not None and sys.stderr.isatty()


def _show(describe: Callable[[], str], shown: threading.Event) -> None:
    _write(f"tpu_dynamo: {describe()} ...")
    shown.set()


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
