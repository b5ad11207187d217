"""torch.distributed for the device: its backend's name, and operators that its programs have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ._torch_compat import NAME, register_backend

BACKEND = "tpu_dist"


def _create(*given: Any) -> Any:
    from ..distributed.process_group import create  # what only distributed programs need

    return create(*given)


def _fake(values: Sequence[int]) -> torch.Tensor:
    return torch.empty((), dtype=torch.int64, device="cpu")


def _fake_slice(self: torch.Tensor, dim: int, start: torch.Tensor, length: int) -> torch.Tensor:
    return self.narrow(dim, 0, length).clone(memory_format=torch.contiguous_format)


def _fake_put(self: torch.Tensor, values: torch.Tensor, dim: int, start: torch.Tensor) -> torch.Tensor:
    return self.clone(memory_format=torch.contiguous_format)


def register_distributed(definition: torch.library.Library) -> list[torch.library.Library]:
    """Make `tpu_dist` the device's backend for process groups, and define in `definition` what programs ask ranks.

    Returns libraries with kernels of collectives, to be kept: torch's own ask a backend in C++, which the device has
    not, and groups of any backend can be called with its tensors.
    `value_of_rank` is the number that a list has at the position of the rank that computes. `slice_at` is a slice of a
    dimension that begins at a number which is a tensor, and `put_at` writes one.
    """
    definition.define("value_of_rank(int[] values) -> Tensor")
    definition.define("slice_at(Tensor self, int dim, Tensor start, int length) -> Tensor")
    torch.library.register_fake("tpu_dynamo::value_of_rank", _fake, lib=definition)
    definition.define("put_at(Tensor self, Tensor values, int dim, Tensor start) -> Tensor")
    torch.library.register_fake("tpu_dynamo::put_at", _fake_put, lib=definition)
    torch.library.register_fake("tpu_dynamo::slice_at", _fake_slice, lib=definition)
    if not torch.distributed.is_available():
        return []
    from ..distributed.kernels import register_kernels  # torch has no such operators without torch.distributed

    register_backend(BACKEND, NAME, _create)
    return register_kernels()
