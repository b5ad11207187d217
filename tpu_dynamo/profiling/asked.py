"""Profiles that `tpu-dynamo profile` asks of a command's processes: of a few steps, after the first ones."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tpu_dynamo_runtime import Buffer, LoadedExecutable, PooledProgram, Watching

from .recorder import Recorder

log = logging.getLogger("tpu_dynamo")

_SETTINGS = "settings.json"


@dataclass(frozen=True)
class Asked:
    """The steps to record: once a graph has run `skip` times, until one has run `steps` times more."""

    skip: int
    steps: int


def ask(folder: Path, asked: Asked) -> None:
    """Write into a folder what its processes are to record."""
    (folder / _SETTINGS).write_text(json.dumps([asked.skip, asked.steps]), encoding="utf-8")


def begin(folder: str) -> None:
    """Wait for the steps to record, in a process whose environment names a folder; called before its first program."""
    try:
        asked = Asked(*json.loads((Path(folder) / _SETTINGS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        log.warning("no profile is taken: %s does not say of what: %s", folder, error)
        return
    if Watching.now is None:
        Watching.now = _Waiting(asked, Path(folder))


class _Waiting:
    """Watches a process until it is time to record it, and records it."""

    def __init__(self, asked: Asked, folder: Path):
        self._asked = asked
        self._folder = folder
        self._counts: Counter[str] = Counter()
        self._recorder: Recorder | None = None
        atexit.register(self._end)

    def execute(
        self, program: PooledProgram, described: str, executable: LoadedExecutable, operands: Sequence[Buffer]
    ) -> Any:
        """Run a program; begin to record if graphs have run often enough."""
        if Watching.now is self and _in_main_thread() and described:
            self._counts[described] += 1
            if self._counts[described] > self._asked.skip:
                self._begin()
        if Watching.now is not None and Watching.now is not self:
            return Watching.now.execute(program, described, executable, operands)
        return executable.execute_sharded(operands)

    @contextlib.contextmanager
    def during(self, kind: Literal["transfer", "compile"], what: str, nbytes: int = 0) -> Iterator[None]:
        """Let copies and compiles pass."""
        yield

    def _begin(self) -> None:
        self._counts.clear()
        Watching.now = None
        self._recorder = Recorder(self._count, threading.main_thread().ident)
        self._recorder.start()

    def _count(self, described: str) -> None:
        """End the recording before a graph runs more often than was asked for."""
        if _in_main_thread() and described:
            self._counts[described] += 1
            if self._counts[described] > self._asked.steps:
                self._end()

    def _end(self) -> None:
        atexit.unregister(self._end)
        recorder, self._recorder = self._recorder, None
        if Watching.now is self:
            Watching.now = None
        if recorder is None or Watching.now is not recorder:
            return
        from .build import build_profile
        from .files import save

        recording = recorder.stop()
        profile = build_profile(recording, sys.argv)
        path = self._folder / str(os.getpid())
        try:
            # The trace first: a profile that is there is whole.
            if recording.xspace:
                save(path.with_suffix(".xplane.pb"), profile, recording.xspace)
            save(path.with_suffix(".json"), profile)
        except OSError as error:
            log.warning("the profile of this process cannot be written to %s: %s", self._folder, error)


def _in_main_thread() -> bool:
    """Return True in the thread that records: PyTorch's profiler begins and ends in the same one."""
    return threading.current_thread() is threading.main_thread()
