"""torch.tpu's functions about memory, the counterparts of torch.cuda's."""

from __future__ import annotations

import os
from typing import Any

from ..formatting import format_bytes
from .operator_programs import device_client, in_use

# The peaks that PJRT had reported when they were last reset; it does not reset them itself.
_peaks_at_reset: dict[str, int] = {}

_ALLOCATED, _RESERVED = "peak_bytes_in_use", "peak_pool_bytes"
# Under which of these names a platform reports what it holds; a GPU's `bytes_reserved` is always 0.
_HELD = ("pool_bytes", "bytes_reserved")


def memory_allocated(device: Any = None) -> int:
    """Return the bytes of the device's memory in live buffers."""
    return device_client().live_bytes() if in_use() else 0


def memory_reserved(device: Any = None) -> int:
    """Return the bytes that the platform holds for buffers; those allocated, if PJRT does not report them."""
    stats = memory_stats() if in_use() else {}
    return max(memory_allocated(), *(int(stats.get(name, 0)) for name in _HELD))


def memory_stats(device: Any = None) -> dict[str, int]:
    """Return PJRT's statistics of the device's memory; empty for XLA's CPU client."""
    return device_client().memory_stats()


def _peak(name: str, now: int) -> int:
    reported = memory_stats().get(name, 0) if in_use() else 0
    return max(now, reported if reported > _peaks_at_reset.get(name, 0) else 0)


def max_memory_allocated(device: Any = None) -> int:
    """Return the most bytes that were in live buffers, since the start or `reset_peak_memory_stats`.

    PJRT reports the peak of the whole process, and XLA's CPU client none: where that tells nothing about the time since
    the reset, the bytes in live buffers now.
    """
    return _peak(_ALLOCATED, memory_allocated())


def max_memory_reserved(device: Any = None) -> int:
    """Return the most bytes that the platform held for buffers, known as for `max_memory_allocated`."""
    return _peak(_RESERVED, memory_reserved())


def reset_peak_memory_stats(device: Any = None) -> None:
    """Let peaks count from now on."""
    if in_use():
        _peaks_at_reset.update({name: memory_stats().get(name, 0) for name in (_ALLOCATED, _RESERVED)})


def reset_max_memory_allocated(device: Any = None) -> None:
    """Let peaks count from now on."""
    reset_peak_memory_stats()


def reset_accumulated_memory_stats(device: Any = None) -> None:
    """Do nothing: no counts are accumulated."""


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """Return the free and all bytes of the device's memory; of the host's, for XLA's CPU client."""
    limit = memory_stats().get("bytes_limit")
    if limit is not None:
        return int(limit) - memory_allocated(), int(limit)
    page = os.sysconf("SC_PAGE_SIZE")
    return page * os.sysconf("SC_AVPHYS_PAGES"), page * os.sysconf("SC_PHYS_PAGES")


def memory_summary(device: Any = None, abbreviated: bool = False) -> str:
    """Return a few lines on the device's memory; tpu_dynamo.memory() tells what holds it."""
    free, total = mem_get_info()
    figures = {"allocated": memory_allocated(), "peak": max_memory_allocated(), "free": free, "total": total}
    return "\n".join(f"{name}: {format_bytes(count)}" for name, count in figures.items())


def empty_cache() -> None:
    """Do nothing: PJRT keeps no cache of freed buffers."""


def ipc_collect() -> None:
    """Do nothing: PJRT shares no memory between processes."""
