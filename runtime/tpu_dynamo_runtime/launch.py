"""Running a loaded program; what its results become is decided before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch

from .job import RankLost
from .pjrt import Buffer, Client, LoadedExecutable, ResultsConsumer, Unremembered, XlaRuntimeError
from .pjrt_job import dead_ranks
from .pool import PooledProgram
from .residents import MemoryOrder
from .traffic import Traffic
from .transfer import numpy_dtype
from .watching import Watching


@dataclass(frozen=True)
class Result:
    """One result of `@main`: the shape and dtype of the tensor that it becomes.

    order: the tensor's dimensions from the outermost in memory to the innermost, None for row-major; the program
    gives the tensor permuted by it.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    order: MemoryOrder = None

    @property
    def physical_shape(self) -> tuple[int, ...]:
        """The shape that the program gives."""
        return self.shape if self.order is None else tuple(self.shape[d] for d in self.order)


def consumer_of(client: Client, results: Sequence[Result]) -> ResultsConsumer:
    """Return PJRT's handler that turns an execution's results into buffers."""
    return client.results_consumer([(r.physical_shape, numpy_dtype(r.dtype)) for r in results])


# Codes of errors that a program has whatever other ranks do.
_OF_THE_PROGRAM = ("INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED")


class Launch:
    """A program that is called with the buffers of its parameters and gives those of its results.

    traffic: where executions are counted. described: the graph that it computes, for people; empty for an eager
    operator.
    """

    def __init__(self, program: PooledProgram, results: Sequence[Result], traffic: Traffic, described: str = ""):
        self.described = described
        self._program = program
        self._traffic = traffic
        self._consume = consumer_of(program.client, results)

    def __call__(self, operands: Sequence[Buffer]) -> list[Buffer]:
        """Run; the program is loaded first if it was evicted."""
        executable = self._program.executable or self._program.loaded()
        try:
            with Unremembered():
                buffers = self._consume(self._execute(executable)(operands))
        except XlaRuntimeError as error:
            self.explain(error)
            raise
        self._traffic.executions += 1
        self._program.last_use = self._traffic.executions
        return buffers

    def explain(self, error: Exception) -> None:
        """Raise DeviceOutOfMemory for an execution that had no room, RankLost for one whose other rank ended.

        Errors that say what is wrong with the program itself have no such cause, and asking waits for all ranks.
        """
        self._program.client.raise_if_memory_is_full(error)
        span = self._program.span
        own = str(error).startswith(_OF_THE_PROGRAM)
        if not own and len(span) > 1 and (dead := dead_ranks(span)):
            raise RankLost(dead, str(error).splitlines()[0]) from error

    def _execute(self, executable: LoadedExecutable) -> Callable[[Sequence[Buffer]], Any]:
        watcher = Watching.now
        return (
            executable.execute_sharded
            if watcher is None
            else partial(watcher.execute, self._program, self.described, executable)
        )

    def into(self, buffers: list[Buffer], operands: Sequence[Buffer]) -> None:
        """Run the program, and append the results to `buffers` before a signal's handler may raise."""
        executable = self._program.executable or self._program.loaded()
        try:
            with Unremembered():
                # From the execution to the list it is one call of C's: signals are handled between Python's
                # instructions.
                buffers.extend(chain.from_iterable(map(self._consume, map(self._execute(executable), (operands,)))))
        except XlaRuntimeError as error:
            self.explain(error)
            raise
        self._traffic.executions += 1
        self._program.last_use = self._traffic.executions
