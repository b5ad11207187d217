"""torch.accelerator for the device: PyTorch asks guards and allocators in C++, which Python devices lack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import torch_module
from .operator_programs import in_use


def _device_stats(device_index: int) -> dict[str, Any]:
    """Return bytes in use and held, in the form of PyTorch's allocators; their peaks where PJRT reports them."""
    reported = torch_module.memory_stats()
    allocated = {"current": torch_module.memory_allocated()}
    reserved = {"current": torch_module.memory_reserved()}
    for counts, name in ((allocated, "peak_bytes_in_use"), (reserved, "peak_pool_bytes")):
        if name in reported:
            counts["peak"] = reported[name]
    return {"allocated_bytes": {"all": allocated}, "reserved_bytes": {"all": reserved}}


# By their names in torch._C, where torch.accelerator and torch.utils.benchmark, which waits for the accelerator also
# when it times CPU code, find functions that raise for such a device.
ANSWERS: Mapping[str, Callable[..., Any]] = {
    "_accelerator_synchronizeDevice": torch_module.synchronize,
    "_accelerator_isAllocatorInitialized": in_use,
    "_accelerator_emptyCache": torch_module.empty_cache,
    "_accelerator_getDeviceStats": _device_stats,
}
