"""torch.tpu: what torch.cuda is for CUDA."""

from __future__ import annotations

import time
import types
from typing import Any

import torch

from .generator import generator
from .operator_programs import device_client, in_use


def is_available() -> bool:
    """Whether there is a device: there always is one, XLA's CPU client if nothing else."""
    return True


def is_initialized() -> bool:
    """Whether the device can be used."""
    return True


def init() -> None:
    """Nothing: the device is initialised when it is first used."""


def device_count() -> int:
    """How many devices have an index: PyTorch gives a device made in Python one."""
    return 1


def current_device() -> int:
    """The index of the current device."""
    return 0


def set_device(device: Any) -> None:
    """Choose the current device. Raises RuntimeError for an index other than 0."""
    chosen = device if isinstance(device, int) else torch.device(device).index or 0
    if chosen not in (0, -1):
        raise RuntimeError(f"device tpu:{chosen} does not exist: there is tpu:0")


def get_device_name(device: Any = None) -> str:
    """What PJRT calls the chip, as `TPU v5e` or `cpu`."""
    return str(device_client().device.device_kind)


def synchronize(device: Any = None) -> None:
    """Wait until everything that was asked of the device is done; nothing where nothing was."""
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
    """The seed of the device's generator."""
    return generator().initial_seed()


def get_rng_state(device: Any = "tpu") -> torch.Tensor:
    """The state of the device's generator, a uint8 CPU tensor."""
    return generator().get_state()


def set_rng_state(new_state: torch.Tensor, device: Any = "tpu") -> None:
    """Put the device's generator into a state that `get_rng_state` gave."""
    generator().set_state(new_state)


def memory_allocated(device: Any = None) -> int:
    """Bytes of the device's memory in live buffers."""
    return device_client().live_bytes() if in_use() else 0


def memory_reserved(device: Any = None) -> int:
    """Bytes that the platform holds for buffers; as allocated, where PJRT does not tell."""
    return int(memory_stats().get("bytes_reserved", memory_allocated()))


def memory_stats(device: Any = None) -> dict[str, int]:
    """What PJRT tells of the device's memory; empty for XLA's CPU client."""
    return device_client().memory_stats()


def empty_cache() -> None:
    """Nothing: PJRT keeps no cache of freed buffers."""


def get_amp_supported_dtype() -> list[torch.dtype]:
    """The dtypes that autocast may compute in."""
    return [torch.bfloat16, torch.float16]


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether bfloat16 can be computed with; TPUs do it best."""
    return True


class Stream:
    """The order of executions. PJRT has one, given by the data, so every stream is it."""

    def __init__(self, device: Any = None, priority: int = 0):
        self.device = torch.device("tpu", 0)

    def synchronize(self) -> None:
        """Wait for everything."""
        synchronize()

    def query(self) -> bool:
        """Whether everything is done; waits for it."""
        synchronize()
        return True

    def wait_stream(self, stream: Stream) -> None:
        """Nothing: there is one order."""

    def wait_event(self, event: Event) -> None:
        """Nothing: there is one order."""

    def record_event(self, event: Event | None = None) -> Event:
        """An event at this point."""
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
        """Set the point here; waits for what comes before it."""
        synchronize()
        self._time = time.perf_counter()

    def synchronize(self) -> None:
        """Nothing more: recording waited."""

    def query(self) -> bool:
        """Whether the point was reached."""
        return True

    def wait(self, stream: Stream | None = None) -> None:
        """Nothing: there is one order."""

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to another. Raises RuntimeError for one that was not recorded."""
        if self._time is None or end_event._time is None:
            raise RuntimeError("both events must be recorded before their distance in time is asked for")
        return (end_event._time - self._time) * 1000


def current_stream(device: Any = None) -> Stream:
    """The one order of executions."""
    return Stream()


def stream(stream: Stream | None) -> Stream:
    """A context that changes nothing: there is one order."""
    return stream or Stream()


def _is_in_bad_fork() -> bool:
    return False


def module() -> types.ModuleType:
    """The module that becomes torch.tpu."""
    made = types.ModuleType("torch.tpu", __doc__)
    for name, value in globals().items():
        if isinstance(value, types.FunctionType | type) and value.__module__ == __name__ and name != "module":
            setattr(made, name, value)
    return made
