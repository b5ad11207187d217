"""PyTorch's own profiler: the ranges that it records of guards, compiled regions, operators and optimizers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch._dynamo.callback import CallbackArgs, callback_handler
from torch.autograd import profiler


class TorchRanges:
    """A session of PyTorch's profiler, of the CPU alone, unless the user's own is running."""

    def __init__(self) -> None:
        self._session: Any = None

    def start(self) -> None:
        """Start; a second session would end the first one, so that where the user has one nothing happens."""
        if not profiler._is_profiler_enabled:
            self._session = profiler.profile(use_cpu=True)
            self._session.__enter__()

    def stop(self) -> list[tuple[str, int, int, int]] | None:
        """End; return names, starts and ends in nanoseconds since the epoch, and threads as PyTorch counts them.

        None where the session was not ours, or ended when the user began one.
        """
        if self._session is None or not profiler._is_profiler_enabled:
            return None
        self._session.__exit__(None, None, None)
        events = self._session.kineto_results.events()
        cpu = torch.autograd.DeviceType.CPU
        return [
            (e.name(), e.start_ns(), e.start_ns() + e.duration_ns(), e.start_thread_id())
            for e in events
            if e.device_type() == cpu
        ]


@contextlib.contextmanager
def watching_compiles(during: Callable[[str], AbstractContextManager[None]]) -> Iterator[None]:
    """Enter `during(what)` whenever Dynamo compiles in the context, be it a frame or a backward graph."""
    entered: list[AbstractContextManager[None]] = []

    def started(args: CallbackArgs) -> None:
        entered.append(during(f"compiling {args.compile_id}"))
        entered[-1].__enter__()

    def ended(args: CallbackArgs) -> None:
        if entered:
            entered.pop().__exit__(None, None, None)

    callback_handler.register_start_callback(started)
    callback_handler.register_end_callback(ended)
    try:
        yield
    finally:
        callback_handler.remove_start_callback(started)
        callback_handler.remove_end_callback(ended)
