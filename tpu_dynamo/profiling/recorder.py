"""Recording a run in this process: executions, copies and compiles, PyTorch's ranges, PJRT's trace, samples."""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch

from tpu_dynamo_runtime import Buffer, LoadedExecutable, PooledProgram, Watching, client, resolve, tpu_chips
from tpu_dynamo_runtime.device_trace import CALL
from tpu_dynamo_runtime.profiler_compat import TraceAnnotation, start_profiler, stop_profiler

from .._torch_compat import TorchRanges, watching_compiles
from .recording import OURS, Execution, RecordedProgram, Recording, Span, TorchRange
from .sampling import Sampler, place_of_frame


class AlreadyProfiling(RuntimeError):
    """A profile is taken while another one is."""

    def __init__(self) -> None:
        super().__init__(
            "this process takes a profile already, and there is one at a time\n"
            "  try: leave the other `with tpu_dynamo.profile()` block first"
        )


class Recorder:
    """Watches a process, from `start` to `stop`, which the same thread calls.

    before_execution: called with each graph's name before it runs. thread: the one whose lines are sampled, by default
    the caller's.
    """

    def __init__(self, before_execution: Callable[[str], None] | None = None, thread: int | None = None):
        self.recording = Recording()
        self._before_execution = before_execution
        self._programs: dict[tuple[PooledProgram, str], tuple[int, LoadedExecutable, str]] = {}
        self._calls = itertools.count()
        self._torch = TorchRanges()
        self._sampler = Sampler(thread or threading.get_ident())
        self._compiles: contextlib.ExitStack = contextlib.ExitStack()
        self._traced = False

    def start(self) -> None:
        """Start recording. Raises AlreadyProfiling."""
        if Watching.now is not None:
            raise AlreadyProfiling
        if resolve("auto", tpu_chips()) != "cpu":
            client()  # PJRT records the devices of clients that are there
        self._compiles.enter_context(watching_compiles(lambda what: self.during("compile", what)))
        self._torch.start()
        self._traced = start_profiler()
        self._sampler.start()
        self.recording.begin = time.time_ns()
        Watching.now = self

    def stop(self) -> Recording:
        """End; return what was recorded."""
        Watching.now = None
        recording = self.recording
        recording.end = time.time_ns()
        self._sampler.stop()
        recording.samples = self._sampler.samples
        if self._traced:
            recording.xspace = stop_profiler()
        ranges = self._torch.stop()
        recording.torch_ranges = None if ranges is None else [TorchRange(*each) for each in ranges]
        self._compiles.close()
        hlo: dict[PooledProgram, str] = {}
        for (program, described), (_, executable, _) in self._programs.items():
            recording.platform = recording.platform or program.client.platform
            if program not in hlo:
                hlo[program] = program.client.optimised_hlo(executable)
            recording.programs.append(_recorded(program, described, hlo[program]))
        self._programs.clear()
        return recording

    def mark(self) -> None:
        """Note that a step ends now."""
        self.recording.marks.append(time.time_ns())

    def execute(
        self, program: PooledProgram, described: str, executable: LoadedExecutable, operands: Sequence[Buffer]
    ) -> Any:
        """Run a program, under its graph's name in PJRT's trace and PyTorch's."""
        if self._before_execution is not None:
            self._before_execution(described)
            if Watching.now is not self:  # it ended the recording
                return executable.execute_sharded(operands)
        known = self._programs.get((program, described))
        if known is None:
            name = f"{OURS}{described or 'eager operator'}"
            known = self._programs.setdefault((program, described), (len(self._programs), executable, name))
        number, _, name = known
        place = place_of_frame(sys._getframe(1))
        call = next(self._calls)
        with torch.profiler.record_function(name), TraceAnnotation(name, **{CALL: call}):
            start = time.time_ns()
            results = executable.execute_sharded(operands)
            if not self._traced:
                program.client.synchronise()  # nobody else says when it ends
            end = time.time_ns()
        self.recording.executions.append(Execution(call, number, start, end, threading.get_ident(), place))
        return results

    @contextlib.contextmanager
    def during(self, kind: Literal["transfer", "compile"], what: str, nbytes: int = 0) -> Iterator[None]:
        """Record the copy of so many bytes, or the compile, that happens in the context."""
        place = place_of_frame(sys._getframe(1))
        with TraceAnnotation(f"{OURS}{what}"):
            start = time.time_ns()
            try:
                yield
            finally:
                self.recording.spans.append(
                    Span(kind, what, start, time.time_ns(), threading.get_ident(), place, nbytes)
                )


def _recorded(program: PooledProgram, described: str, hlo: str) -> RecordedProgram:
    """Return a program that ran, with the lines of one of the graphs that it computes."""
    renaming, names = program.renaming(described), program.operations_of.get(described)
    return RecordedProgram(described, renaming.text(hlo), names and names(), frozenset(renaming.ambiguous))
