"""Tensors copied to a device and back, and what NumPy and PJRT call their formats."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import torch

from .pjrt import Buffer, Client
from .resizable import let_resize
from .traffic import Traffic
from .watching import Watching

# NumPy has no such formats itself: the bytes are passed as integers of the same width.
_EXTENDED = {
    torch.bfloat16: (torch.int16, ml_dtypes.bfloat16),
    torch.float8_e4m3fn: (torch.int8, ml_dtypes.float8_e4m3fn),
    torch.float8_e4m3fnuz: (torch.int8, ml_dtypes.float8_e4m3fnuz),
    torch.float8_e5m2: (torch.int8, ml_dtypes.float8_e5m2),
    torch.float8_e5m2fnuz: (torch.int8, ml_dtypes.float8_e5m2fnuz),
    torch.float8_e8m0fnu: (torch.int8, ml_dtypes.float8_e8m0fnu),
}


class Copying:
    """Moves dense row-major CPU tensors to a device with memory of its own, and buffers back."""

    def __init__(self, client: Client, traffic: Traffic):
        self._client = client
        self._traffic = traffic

    def put(self, tensor: torch.Tensor) -> Buffer:
        """Copy the tensor to the device."""
        self._traffic.bytes_to_device += tensor.nbytes
        array, watcher = as_numpy(tensor.detach()), Watching.now
        if watcher is None:
            return self._client.put_copied(array)
        with watcher.during("transfer", "to the device", tensor.nbytes):
            return self._client.put_copied(array)

    def take(self, buffers: Sequence[Buffer], dtypes: Sequence[torch.dtype]) -> list[torch.Tensor]:
        """Copy buffers to the host."""
        watcher = Watching.now
        if watcher is None:
            arrays = self._client.take_copied(buffers)
        else:
            with watcher.during("transfer", "to the host", sum(buffer.nbytes for buffer in buffers)):
                arrays = self._client.take_copied(buffers)
        self._traffic.bytes_to_host += sum(array.nbytes for array in arrays)
        return [let_resize(as_torch(array, dtype)) for array, dtype in zip(arrays, dtypes, strict=True)]


def numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """Return NumPy's dtype for a torch dtype."""
    if dtype in _EXTENDED:
        return np.dtype(_EXTENDED[dtype][1])
    return torch.empty(0, dtype=dtype, device="cpu").numpy().dtype


def as_numpy(tensor: torch.Tensor) -> np.ndarray:
    """View a dense CPU tensor's memory as a NumPy array of the same format, good for as long as the tensor lives.

    Unlike after `tensor.numpy()`, the tensor's storage can be resized.
    """
    if not tensor.numel():
        return np.empty(tensor.shape, numpy_dtype(tensor.dtype))
    memory = (ctypes.c_char * tensor.nbytes).from_address(tensor.data_ptr())
    return np.frombuffer(memoryview(memory), numpy_dtype(tensor.dtype)).reshape(tensor.shape)


def as_torch(array: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """View a NumPy array's memory as a tensor of `dtype`, which is the array's own format."""
    if dtype in _EXTENDED:
        integer = np.int16 if array.dtype.itemsize == 2 else np.int8
        return torch.from_numpy(array.view(integer)).view(dtype)
    return torch.from_numpy(array)
