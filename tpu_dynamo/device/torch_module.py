"""torch.tpu: the counterpart of torch.cuda."""

from __future__ import annotations

import functools
import os
import sys
import time
import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from . import torch_memory
from ._torch_compat import PRIVATE_USE
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


@dataclass(frozen=True)
class DeviceProperties:
    """The device in the words of torch.cuda.get_device_properties: PJRT's name, bytes of memory, one processor."""

    name: str
    total_memory: int
    multi_processor_count: int = 1
    major: int = 0
    minor: int = 0


def get_device_properties(device: Any = None) -> DeviceProperties:
    """Return the chip's name and memory."""
    return DeviceProperties(get_device_name(), torch_memory.mem_get_info()[1])


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """Return (0, 0): CUDA's generations say nothing about this device."""
    return (0, 0)


def can_device_access_peer(device: Any, peer_device: Any) -> bool:
    """Return False: the process has one device."""
    return False


class device:
    """A context in which the device is the current one, as it always is. Raises RuntimeError for another index."""

    def __init__(self, device: Any):
        set_device(device)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *raised: object) -> None:
        return None


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


def get_rng_state_all() -> list[torch.Tensor]:
    """Return the states of all devices' generators, of which there is one."""
    return [get_rng_state()]


def set_rng_state_all(new_states: Iterable[torch.Tensor]) -> None:
    """Put all devices' generators into states that `get_rng_state_all` gave."""
    for new_state in new_states:
        set_rng_state(new_state)


def seed_all() -> None:
    """Seed every device's generator from the system."""
    seed()


def get_amp_supported_dtype() -> list[torch.dtype]:
    """Return the dtypes that autocast may compute in."""
    return [torch.bfloat16, torch.float16]


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Return True: every platform computes in bfloat16."""
    return True


class Stream(torch.Stream):
    """The order of executions. PJRT has only one, which follows from the data, so all streams are that one."""

    def __new__(cls, device: Any = None, priority: int = 0) -> Stream:
        """Return a stream of PyTorch's, by its numbers: asking for one needs a guard of the device in C++."""
        return super().__new__(cls, stream_id=0, device_index=0, device_type=PRIVATE_USE)

    def synchronize(self) -> None:
        """Wait until everything that was asked of the device is done."""
        synchronize()

    def query(self) -> bool:
        """Wait until everything is done, and return True."""
        synchronize()
        return True

    def wait_stream(self, stream: Stream) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Do nothing: there is one order of executions."""

    def wait_event(self, event: Event) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Do nothing: there is one order of executions."""

    def record_event(self, event: Event | None = None) -> Event:  # pyright: ignore[reportIncompatibleMethodOverride]
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


def default_stream(device: Any = None) -> Stream:
    """Return a Stream, which stands for the one order of executions."""
    return Stream()


def set_stream(stream: Stream) -> None:
    """Do nothing: there is one order of executions."""


def is_current_stream_capturing() -> bool:
    """Return False: compiled functions are programs already, and no graphs are captured."""
    return False


class StreamContext:
    """A context that changes nothing: there is one order of executions."""

    def __init__(self, stream: Stream | None):
        self.stream = stream

    def __enter__(self) -> None:
        return None

    def __exit__(self, *raised: object) -> None:
        return None


def stream(stream: Stream | None) -> Stream:
    """Return a context that changes nothing: there is one order of executions."""
    return stream or Stream()


def _is_in_bad_fork() -> bool:
    return False


def module() -> types.ModuleType:
    """Return the module that becomes torch.tpu."""
    made = types.ModuleType("torch.tpu", __doc__)
    for source in (sys.modules[__name__], torch_memory):
        for name, value in vars(source).items():
            if (
                isinstance(value, types.FunctionType | type)
                and value.__module__ == source.__name__
                and name != "module"
            ):
                setattr(made, name, value)
    made.default_generators = (generator(),)  # pyright: ignore[reportAttributeAccessIssue]
    made.amp = _amp()  # pyright: ignore[reportAttributeAccessIssue]
    return made


def _amp() -> types.ModuleType:
    made = types.ModuleType("torch.tpu.amp", "torch.amp for the device, as torch.cuda.amp is for CUDA.")
    for name in ("autocast", "GradScaler"):
        setattr(made, name, functools.partial(getattr(torch.amp, name), "tpu"))
    for name in ("custom_fwd", "custom_bwd"):
        setattr(made, name, functools.partial(getattr(torch.amp, name), device_type="tpu"))
    return made
