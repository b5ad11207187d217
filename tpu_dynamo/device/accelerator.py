"""torch.accelerator for the device: what PyTorch asks of guards and allocators in C++, which Python devices lack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import torch_module
from .operator_programs import in_use


def _device_stats(device_index: int) -> dict[str, Any]:
    """Bytes in use and held, as PyTorch's allocators tell them; their peaks where PJRT tells them."""
    told = torch_module.memory_stats()
    allocated = {"current": torch_module.memory_allocated()}
    reserved = {"current": torch_module.memory_reserved()}
    for counts, name in ((allocated, "peak_bytes_in_use"), (reserved, "peak_pool_bytes")):
        if name in told:
            counts["peak"] = told[name]
    return {"allocated_bytes": {"all": allocated}, "reserved_bytes": {"all": reserved}}


# By their names in torch._C, where torch.accelerator and torch.utils.benchmark, which waits for the accelerator also
# when it times CPU code, find functions that raise for such a device.
ANSWERS: Mapping[str, Callable[..., Any]] = {
    "_accelerator_synchronizeDevice": torch_module.synchronize,
    "_accelerator_isAllocatorInitialized": in_use,
    "_accelerator_emptyCache": torch_module.empty_cache,
    "_accelerator_getDeviceStats": _device_stats,
}
