"""torch.accelerator for the device: PyTorch asks guards and allocators in C++, which Python devices lack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from . import torch_memory, torch_module
from .operator_programs import in_use

_DTYPES = (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16,
    torch.float32, torch.float64, torch.complex64, torch.complex128,
)  # fmt: skip


def _device_stats(device_index: int) -> dict[str, Any]:
    """Return bytes in use and held, in the form of PyTorch's allocators."""
    allocated = {"current": torch_memory.memory_allocated(), "peak": torch_memory.max_memory_allocated()}
    reserved = {"current": torch_memory.memory_reserved(), "peak": torch_memory.max_memory_reserved()}
    return {"allocated_bytes": {"all": allocated}, "reserved_bytes": {"all": reserved}}


# By their names in torch._C, where torch.accelerator and torch.utils.benchmark, which waits for the accelerator also
# when it times CPU code, find functions that raise for such a device.
ANSWERS: Mapping[str, Callable[..., Any]] = {
    "_accelerator_synchronizeDevice": torch_module.synchronize,
    "_accelerator_isAllocatorInitialized": in_use,
    "_accelerator_emptyCache": torch_memory.empty_cache,
    "_accelerator_emptyHostCache": torch_memory.empty_cache,
    "_accelerator_getDeviceStats": _device_stats,
    "_accelerator_getMemoryInfo": torch_memory.mem_get_info,
    "_accelerator_resetAccumulatedStats": torch_memory.reset_accumulated_memory_stats,
    "_accelerator_resetPeakStats": torch_memory.reset_peak_memory_stats,
    "_accelerator_getDeviceCapability": lambda device_index: {"supported_dtypes": set(_DTYPES)},
}
