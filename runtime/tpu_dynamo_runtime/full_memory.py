"""PyTorch's own error for memory that is full, which training loops look for, raised for a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from .targets import page_of

_NO_ROOM_ON_HOST = "DefaultCPUAllocator: can't allocate memory"


_HINT = "  try: tpu_dynamo.memory(), which says what holds it; a smaller batch, bfloat16, or\n  torch.utils.checkpoint"


class DeviceOutOfMemory(torch.OutOfMemoryError):
    """There is no room for a buffer in the device's memory.

    held: bytes in use. limit: the bytes that PJRT may use, None where it does not say. words: what holds them and what
    would need less, in lines that begin with two spaces, where the front door says it.
    """

    code = "TPU506"

    def __init__(self, why: str, held: int, limit: int | None, words: str = ""):
        self.held, self.limit = held, limit
        of = "" if limit is None else f" of {limit / 2**30:.2f} GiB"
        super().__init__(
            f"the device is out of memory. {held / 2**30:.2f} GiB{of} are in use; the allocator says:\n"
            f"    {why}\n{words or _HINT}{page_of(self.code)}"
        )


def full_memory(
    message: str, stats: Mapping[str, int], live: Callable[[], int], words: Callable[[], str] = str
) -> DeviceOutOfMemory | None:
    """Return what to raise for an error that says that memory is full; None for every other error.

    message: PJRT's, or that of PyTorch's allocator, where the device's memory is the host's. stats: PJRT's statistics
    of the memory. live: counts the bytes in live buffers, for a platform without statistics. Buffers of executions that
    failed are among the live ones, so statistics know better. words: says what holds the memory.
    """
    if not message.startswith("RESOURCE_EXHAUSTED") and _NO_ROOM_ON_HOST not in message:
        return None
    held = stats["bytes_in_use"] if "bytes_in_use" in stats else live()
    return DeviceOutOfMemory(message.splitlines()[0], held, stats.get("bytes_limit"), words())
