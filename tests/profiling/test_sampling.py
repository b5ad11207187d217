"""Samples of a thread's lines: what they leave alone."""

from __future__ import annotations

import threading
import time
import weakref

from tpu_dynamo.profiling.sampling import Sampler


class _Held:
    """Stands for a tensor that a function makes and drops."""


def _make_and_drop() -> weakref.ref[_Held]:
    held = _Held()
    time.sleep(0.02)  # several samples see this frame
    return weakref.ref(held)


def test_a_sample_keeps_nothing_alive() -> None:
    sampler = Sampler(threading.get_ident())
    sampler.start()
    try:
        outlived = sum(_make_and_drop()() is not None for _ in range(10))
    finally:
        sampler.stop()
    assert sampler.samples
    # One that returns in the microseconds of a sample may be seen by it.
    assert outlived <= 1
