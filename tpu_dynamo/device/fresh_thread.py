"""Calling a function where none of the caller's modes are switched on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def in_fresh_thread(function: Callable[[], T]) -> T:
    """Call `function` in a thread of its own; return what it returns, and raise what it raises.

    The modes that a caller may have switched on belong to its thread: fake tensors, tracing, functionalization, the
    layers of torch.func, autocast, inference mode, default devices, the keys that the dispatcher leaves out below a
    kernel. A new thread has none of them, nor of those that later versions of PyTorch add.
    """
    outcome: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        try:
            outcome.append((function(), None))
        except BaseException as error:  # noqa: BLE001  (raised below, in the caller's thread)
            outcome.append((None, error))

    thread = threading.Thread(target=run, name="tpu_dynamo-operator")
    thread.start()
    try:
        thread.join()
    finally:
        thread.join()  # Ctrl-C ends the first; what runs there works with the process's one tracer
    result, error = outcome.pop()
    try:
        if error is not None:
            raise error
        return result
    finally:
        # A traceback holds this frame: with the error in it, tensors would live until the garbage collector comes.
        del error
