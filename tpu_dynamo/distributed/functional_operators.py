"""The functional operators of torch.distributed on device tensors, which DTensor and FSDP2 call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from . import collectives
from ._torch_compat import ranks_of
from .operators import Kernel, put, put_all

# By library.
FUNCTIONAL: dict[str, dict[str, Kernel]] = {"_c10d_functional": {}, "_dtensor": {}}


def _kernel(name: str, namespace: str = "_c10d_functional") -> Callable[[Kernel], Kernel]:
    def enter(function: Kernel) -> Kernel:
        FUNCTIONAL[namespace][name] = function
        return function

    return enter


@_kernel("all_reduce")
def all_reduce(input: torch.Tensor, reduce_op: str, group_name: Any) -> torch.Tensor:
    """Return a tensor reduced over a group."""
    return collectives.all_reduce([input], reduce_op, ranks_of(group_name))[0]


@_kernel("all_reduce_")
def all_reduce_(input: torch.Tensor, reduce_op: str, group_name: Any) -> torch.Tensor:
    """Reduce a tensor in place over a group."""
    put(input, all_reduce(input, reduce_op, group_name))
    return input


@_kernel("all_reduce_coalesced")
def all_reduce_coalesced(inputs: list[torch.Tensor], reduce_op: str, group_name: Any) -> list[torch.Tensor]:
    """Return tensors reduced over a group, in one program."""
    return collectives.all_reduce(inputs, reduce_op, ranks_of(group_name))


@_kernel("all_reduce_coalesced_")
def all_reduce_coalesced_(inputs: list[torch.Tensor], reduce_op: str, group_name: Any) -> list[torch.Tensor]:
    """Reduce tensors in place over a group, in one program."""
    put_all(inputs, all_reduce_coalesced(inputs, reduce_op, group_name))
    return inputs


@_kernel("all_gather_into_tensor")
def all_gather_into_tensor(input: torch.Tensor, group_size: int, group_name: Any) -> torch.Tensor:
    """Return the tensors of a group's ranks, one after the other."""
    return collectives.all_gather([input], ranks_of(group_name))[0]


@_kernel("all_gather_into_tensor_out")
def all_gather_into_tensor_out(
    input: torch.Tensor, group_size: int, group_name: Any, *, out: torch.Tensor
) -> torch.Tensor:
    """Write the tensors of a group's ranks, one after the other, into one."""
    put(out, all_gather_into_tensor(input, group_size, group_name))
    return out


@_kernel("all_gather_into_tensor_coalesced")
def all_gather_into_tensor_coalesced(
    inputs: list[torch.Tensor], group_size: int, group_name: Any
) -> list[torch.Tensor]:
    """Return, for each of several tensors, those of a group's ranks one after the other, in one program."""
    return collectives.all_gather(inputs, ranks_of(group_name))


@_kernel("reduce_scatter_tensor")
def reduce_scatter_tensor(input: torch.Tensor, reduce_op: str, group_size: int, group_name: Any) -> torch.Tensor:
    """Return this rank's share of the rows of a tensor reduced over a group."""
    return collectives.reduce_scatter([input], reduce_op, ranks_of(group_name))[0]


@_kernel("reduce_scatter_tensor_out")
def reduce_scatter_tensor_out(
    input: torch.Tensor, reduce_op: str, group_size: int, group_name: Any, *, out: torch.Tensor
) -> torch.Tensor:
    """Write this rank's share of the rows of a tensor reduced over a group into another."""
    put(out, reduce_scatter_tensor(input, reduce_op, group_size, group_name))
    return out


@_kernel("reduce_scatter_tensor_coalesced")
def reduce_scatter_tensor_coalesced(
    inputs: list[torch.Tensor], reduce_op: str, group_size: int, group_name: Any
) -> list[torch.Tensor]:
    """Return this rank's share of the rows of several tensors reduced over a group, in one program."""
    return collectives.reduce_scatter(inputs, reduce_op, ranks_of(group_name))


@_kernel("all_to_all_single")
def all_to_all_single(
    input: torch.Tensor, output_split_sizes: list[int], input_split_sizes: list[int], group_name: Any
) -> torch.Tensor:
    """Return the rows that a group's ranks send to this one."""
    return collectives.exchange_uneven(input, input_split_sizes, output_split_sizes, ranks_of(group_name))


@_kernel("broadcast")
def broadcast(input: torch.Tensor, src: int, group_name: Any) -> torch.Tensor:
    """Return the tensor of one rank of a group."""
    return collectives.broadcast([input], src, ranks_of(group_name))[0]


@_kernel("broadcast_")
def broadcast_in_place(input: torch.Tensor, src: int, group_name: Any) -> torch.Tensor:
    """Write the tensor of one rank of a group into that of every rank."""
    put(input, broadcast(input, src, group_name))
    return input


@_kernel("wait_tensor")
def wait_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """Return a collective's result: its memory is waited for where it is read."""
    return tensor


@_kernel("shard_dim_alltoall", "_dtensor")
def shard_dim_alltoall(input: torch.Tensor, gather_dim: int, shard_dim: int, group_name: Any) -> torch.Tensor:
    """Return a shard of one dimension for one of another."""
    return collectives.shard_dim_alltoall(input, gather_dim, shard_dim, ranks_of(group_name))
