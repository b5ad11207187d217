"""torch.tpu: the counterpart of torch.cuda."""

from __future__ import annotations

import os
import time
import types
from typing import Any

import torch

from .generator import generator
from .operator_programs import device_client, in_use


def is_available() -> bool:
    """Return True: there always is a device, XLA's CPU client if nothing else."""
    return True


def is_initialized() -> bool:
    """Return True: the device can always be used."""
    return True


def init() -> None:
    """Do nothing: the device is initialised when it is first used."""


def device_count() -> int:
    """Return 1: PyTorch gives a device made in Python one index, and a process of torchrun's has one chip."""
    return 1


def current_device() -> int:
    """Return the index of the current device, 0."""
    return 0


def set_device(device: Any) -> None:
    """Choose the current device: 0, or the process's number on its host, as scripts for torchrun do.

    Whichever it is, the process's chip is tpu:0. Raises RuntimeError for another index.
    """
    chosen = device if isinstance(device, int) else torch.device(device).index or 0
    if chosen not in (0, -1, int(os.environ.get("LOCAL_RANK", "0"))):
        raise RuntimeError(f"device tpu:{chosen} does not exist: there is tpu:0")


def get_device_name(device: Any = None) -> str:
    """Return PJRT's name of the chip, as `TPU v5e` or `cpu`."""
    return str(device_client().device.device_kind)


def synchronize(device: Any = None) -> None:
    """Wait until everything that was asked of the device is done."""
    if in_use():
        device_client().synchronise()


def manual_seed(seed: int) -> None:
    """Seed the device's generator."""
    generator().manual_seed(seed)


def manual_seed_all(seed: int) -> None:
    """Seed every device's generator; torch.manual_seed calls this."""
    generator().manual_seed(seed)


def seed() -> None:
    """Seed the device's generator from the system."""
    generator().seed()


def initial_seed() -> int:
    """Return the seed of the device's generator."""
    return generator().initial_seed()


def get_rng_state(device: Any = "tpu") -> torch.Tensor:
    """Return the state of the device's generator, a uint8 CPU tensor."""
    return generator().get_state()


def set_rng_state(new_state: torch.Tensor, device: Any = "tpu") -> None:
    """Put the device's generator into a state that `get_rng_state` gave."""
    generator().set_state(new_state)


def memory_allocated(device: Any = None) -> int:
    """Return the bytes of the device's memory in live buffers."""
    return device_client().live_bytes() if in_use() else 0


def memory_reserved(device: Any = None) -> int:
    """Return the bytes that the platform holds for buffers; those allocated, if PJRT does not report them."""
    return int(memory_stats().get("bytes_reserved", memory_allocated()))


def memory_stats(device: Any = None) -> dict[str, int]:
    """Return PJRT's statistics of the device's memory; empty for XLA's CPU client."""
    return device_client().memory_stats()


def empty_cache() -> None:
    """Do nothing: PJRT keeps no cache of freed buffers."""


def get_amp_supported_dtype() -> list[torch.dtype]:
    """Return the dtypes that autocast may compute in."""
    return [torch.bfloat16, torch.float16]


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Return True: every platform computes in bfloat16."""
    return True


class Stream:
    """The order of executions. PJRT has only one, which follows from the data, so all streams are that one."""

    def __init__(self, device: Any = None, priority: int = 0):
        self.device = torch.device("tpu", 0)

    def synchronize(self) -> None:
        """Wait until everything that was asked of the device is done."""
        synchronize()

    def query(self) -> bool:
        """Wait until everything is done, and return True."""
        synchronize()
        return True

    def wait_stream(self, stream: Stream) -> None:
        """Do nothing: there is one order of executions."""

    def wait_event(self, event: Event) -> None:
        """Do nothing: there is one order of executions."""

    def record_event(self, event: Event | None = None) -> Event:
        """Record an event at this point, a new one if none is given; return it."""
        event = event or Event()
        event.record(self)
        return event

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *raised: object) -> None:
        return None


class Event:
    """A point in the order of executions, with its time on the host's clock once everything before it is done."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False):
        self._time: float | None = None

    def record(self, stream: Stream | None = None) -> None:
        """Set the point to here; waits for everything before it."""
        synchronize()
        self._time = time.perf_counter()

    def synchronize(self) -> None:
        """Do nothing: `record` has waited."""

    def query(self) -> bool:
        """Return True: `record` has waited for the point."""
        return True

    def wait(self, stream: Stream | None = None) -> None:
        """Do nothing: there is one order of executions."""

    def elapsed_time(self, end_event: Event) -> float:
        """Return the milliseconds from this event to another. Raises RuntimeError if either was not recorded."""
        if self._time is None or end_event._time is None:
            raise RuntimeError("both events must be recorded before their distance in time is asked for")
        return (end_event._time - self._time) * 1000


def current_stream(device: Any = None) -> Stream:
    """Return a Stream, which stands for the one order of executions."""
    return Stream()


def stream(stream: Stream | None) -> Stream:
    """Return a context that changes nothing: there is one order of executions."""
    return stream or Stream()


def _is_in_bad_fork() -> bool:
    return False


def module() -> types.ModuleType:
    """Return the module that becomes torch.tpu."""
    made = types.ModuleType("torch.tpu", __doc__)
    for name, value in globals().items():
        if isinstance(value, types.FunctionType | type) and value.__module__ == __name__ and name != "module":
            setattr(made, name, value)
    return made
