# pyright: reportAttributeAccessIssue=false, reportPrivateUsage=false
"""DTensors taken apart and put together: the values of this process, and the mesh and placements of the whole."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch


def local_of(value: Any) -> Any:
    """Return what this process has of a DTensor; anything else as it is."""
    return getattr(value, "_local_tensor", value)


def sharding_of(value: Any) -> Any:
    """Return a DTensor's spec: mesh, placements, and the shape of the whole; None for anything else."""
    return getattr(value, "_spec", None)


def sharded(local: torch.Tensor, sharding: Any, requires_grad: bool = False) -> torch.Tensor:
    """Return the DTensor of which this process has `local`, as `sharding_of` describes it."""
    from torch.distributed.tensor import DTensor

    return DTensor(local, sharding, requires_grad=requires_grad)


def implicitly_replicated() -> AbstractContextManager[None]:
    """Return a context in which operators of DTensors take other tensors too, as equal on all ranks."""
    from torch.distributed.tensor.experimental import implicit_replication

    return implicit_replication()


def name_of_group(group: Any) -> str:
    """Return the name of a process group, by which operators take it."""
    return group.group_name
