"""Tensors that share elements of memory, which a call that writes to both would have to see."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided

from ._torch_compat import share_storage


def share_elements(tensors: Sequence[torch.Tensor]) -> bool:
    """Return True if any two of the tensors, which may be fake, have an element of memory in common."""
    return any(share_storage(one, other) and _overlap(one, other) for one, other in combinations(tensors, 2))


def _overlap(one: torch.Tensor, other: torch.Tensor) -> bool:
    if not (one.numel() and other.numel()):
        return False
    # NumPy knows exactly, from addresses alone: the memory is never touched.
    memory = np.empty(max(_end(one), _end(other)), np.int8)

    def bytes_of(tensor: torch.Tensor) -> np.ndarray:
        shape, steps = (*tensor.shape, tensor.itemsize), (*_steps(tensor), 1)
        return as_strided(memory[_start(tensor) :], shape, steps)

    return np.shares_memory(bytes_of(one), bytes_of(other))


def _start(tensor: torch.Tensor) -> int:
    return int(tensor.storage_offset()) * tensor.itemsize


def _steps(tensor: torch.Tensor) -> tuple[int, ...]:
    return tuple(step * tensor.itemsize for step in tensor.stride())


def _end(tensor: torch.Tensor) -> int:
    reach = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return _start(tensor) + (reach + 1) * tensor.itemsize
