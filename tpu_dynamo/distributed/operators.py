"""The operators of torch.distributed on device tensors: c10d's, which write, and the functional ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..device import NAME as DEVICE
from ..device.tensor_memory import order_of, read, write
from . import collectives
from ._torch_compat import broadcast_options, delayed_work, finished_work, ranks_of, reduction_of
from .hosts import host_group

Kernel = Callable[..., Any]

C10D: dict[str, Kernel] = {}
FUNCTIONAL: dict[str, Kernel] = {}


def _kernel(table: dict[str, Kernel], name: str) -> Callable[[Kernel], Kernel]:
    def enter(function: Kernel) -> Kernel:
        table[name] = function
        return function

    return enter


def _put(target: torch.Tensor, value: torch.Tensor) -> None:
    """Write a collective's result into a tensor, below autograd, which knows nothing of c10d's operators."""
    target, value = target.detach(), value.detach()
    if target.dtype != value.dtype:
        raise RuntimeError(f"a collective of {value.dtype} tensors cannot write to one of {target.dtype}")
    order = order_of(target)
    write(target, read(value.reshape(target.shape), order), order)


def _flat(outputs: Sequence[Any]) -> list[torch.Tensor]:
    return [each for one in outputs for each in (one if isinstance(one, list) else [one])]


def _put_all(targets: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> None:
    for target, value in zip(targets, values, strict=True):
        _put(target, value)


def _are_bytes(tensors: Sequence[torch.Tensor]) -> bool:
    """Tell whether tensors are pickled objects, as lists of objects cross: of ever other lengths, and of the hosts'."""
    return all(tensor.dtype == torch.uint8 and tensor.ndim == 1 for tensor in tensors)


@_kernel(C10D, "allreduce_")
def allreduce_(tensors: list[torch.Tensor], group: Any, op: Any, sparse: Any = None, *rest: Any) -> Any:
    """Reduce tensors in place over a group."""
    if sparse is not None:
        raise NotImplementedError("all_reduce of sparse tensors: the device has dense tensors only")
    _put_all(tensors, collectives.all_reduce(tensors, reduction_of(op), ranks_of(group)))
    return tensors, finished_work(tensors)


@_kernel(C10D, "allreduce_coalesced_")
def allreduce_coalesced_(tensors: list[torch.Tensor], group: Any, op: Any, *rest: Any) -> Any:
    """Reduce tensors in place over a group, in one program."""
    _put_all(tensors, collectives.all_reduce(tensors, reduction_of(op), ranks_of(group)))
    return finished_work()


@_kernel(C10D, "broadcast_")
def broadcast_(tensors: list[torch.Tensor], group: Any, root_rank: int, root_tensor: int, *rest: Any) -> Any:
    """Write the root's tensors into those of all ranks."""
    if _are_bytes(tensors):
        came = [tensor.detach().cpu() for tensor in tensors]
        host_group(group).broadcast(came, broadcast_options(root_rank)).wait()
        _put_all(tensors, [each.to(DEVICE) for each in came])
        return tensors, finished_work(tensors)
    _put_all(tensors, collectives.broadcast(tensors, root_rank, ranks_of(group)))
    return tensors, finished_work(tensors)


def _gathered(tensor: torch.Tensor, ranks: Sequence[int]) -> Sequence[torch.Tensor]:
    return collectives.all_gather([tensor.detach().unsqueeze(0)], tuple(ranks))[0].unbind()


@_kernel(C10D, "allgather_")
def allgather_(outputs: list[list[torch.Tensor]], inputs: list[torch.Tensor], group: Any, *rest: Any) -> Any:
    """Write every rank's tensor into a list on all ranks; they may have different shapes."""
    ranks = ranks_of(group)
    for wanted, tensor in zip(outputs, inputs, strict=True):
        if _are_bytes([tensor]):
            came = [torch.empty(each.shape, dtype=each.dtype, device="cpu") for each in wanted]
            host_group(group).allgather([came], [tensor.detach().cpu()]).wait()
            _put_all(wanted, [each.to(DEVICE) for each in came])
        elif all(each.shape == tensor.shape for each in wanted):
            _put_all(wanted, _gathered(tensor, ranks))
        else:
            for place, each in enumerate(wanted):
                sent = tensor if each.shape == tensor.shape else torch.zeros_like(each)
                _put(each, collectives.broadcast([sent], place, ranks)[0])
    return outputs, finished_work(_flat(outputs))


@_kernel(C10D, "_allgather_base_")
def _allgather_base_(output: torch.Tensor, input: torch.Tensor, group: Any, *rest: Any) -> Any:
    """Write every rank's tensor, one after the other, into one on all ranks."""
    _put(output, collectives.all_gather([input], ranks_of(group))[0])
    return output, finished_work([output])


@_kernel(C10D, "allgather_coalesced_")
def allgather_coalesced_(outputs: list[list[torch.Tensor]], inputs: list[torch.Tensor], group: Any, *rest: Any) -> Any:
    """Write every rank's list of tensors into a list of lists on all ranks."""
    found = collectives.all_gather([tensor.detach().unsqueeze(0) for tensor in inputs], ranks_of(group))
    for place, wanted in enumerate(outputs):
        _put_all(wanted, [each[place] for each in found])
    return finished_work()


@_kernel(C10D, "allgather_into_tensor_coalesced_")
def allgather_into_tensor_coalesced_(
    outputs: list[torch.Tensor], inputs: list[torch.Tensor], group: Any, *rest: Any
) -> Any:
    """Write every rank's tensors, one rank's after the other's, into tensors on all ranks, in one program."""
    _put_all(outputs, collectives.all_gather(inputs, ranks_of(group)))
    return finished_work()


@_kernel(C10D, "reduce_")
def reduce_(tensors: list[torch.Tensor], group: Any, op: Any, root_rank: int, *rest: Any) -> Any:
    """Reduce tensors over a group, into the root's alone."""
    ranks = ranks_of(group)
    found = collectives.all_reduce(tensors, reduction_of(op), ranks)
    if ranks[root_rank] == _own():
        _put_all(tensors, found)
    return finished_work()


def _own() -> int:
    return torch.distributed.get_rank()


@_kernel(C10D, "reduce_scatter_")
def reduce_scatter_(
    outputs: list[torch.Tensor], inputs: list[list[torch.Tensor]], group: Any, op: Any, *rest: Any
) -> Any:
    """Reduce a list of tensors over a group, of which each rank gets one."""
    ranks, reduction = ranks_of(group), reduction_of(op)
    for wanted, tensors in zip(outputs, inputs, strict=True):
        if all(each.shape == wanted.shape for each in tensors):
            _put(wanted, collectives.reduce_scatter([torch.stack(tensors)], reduction, ranks)[0][0])
            continue
        found = collectives.all_reduce(tensors, reduction, ranks)  # shares of several sizes
        _put(wanted, found[ranks.index(_own())])
    return outputs, finished_work(_flat(outputs))


@_kernel(C10D, "_reduce_scatter_base_")
def _reduce_scatter_base_(output: torch.Tensor, input: torch.Tensor, group: Any, op: Any, *rest: Any) -> Any:
    """Reduce a tensor over a group, of which each rank gets its share of the elements."""
    ranks = ranks_of(group)
    rows = input.detach().reshape(len(ranks), *output.shape)
    _put(output, collectives.reduce_scatter([rows], reduction_of(op), ranks)[0])
    return output, finished_work([output])


@_kernel(C10D, "reduce_scatter_tensor_coalesced_")
def reduce_scatter_tensor_coalesced_(
    outputs: list[torch.Tensor], inputs: list[torch.Tensor], group: Any, op: Any, *rest: Any
) -> Any:
    """Reduce tensors over a group, of which each rank gets its share of the elements, in one program."""
    ranks = ranks_of(group)
    rows = [each.detach().reshape(len(ranks), *out.shape) for each, out in zip(inputs, outputs, strict=True)]
    _put_all(outputs, collectives.reduce_scatter(rows, reduction_of(op), ranks))
    return finished_work()


@_kernel(C10D, "gather_")
def gather_(
    outputs: list[list[torch.Tensor]], inputs: list[torch.Tensor], group: Any, root_rank: int, *rest: Any
) -> Any:
    """Write every rank's tensor into a list of the root's."""
    ranks = ranks_of(group)
    found = [_gathered(tensor, ranks) for tensor in inputs]
    if ranks[root_rank] == _own():
        for wanted, values in zip(outputs, found, strict=True):
            _put_all(wanted, values)
    return finished_work()


@_kernel(C10D, "scatter_")
def scatter_(
    outputs: list[torch.Tensor], inputs: list[list[torch.Tensor]], group: Any, root_rank: int, *rest: Any
) -> Any:
    """Write one of a list of the root's tensors into each rank's."""
    ranks = ranks_of(group)
    for i, wanted in enumerate(outputs):
        if ranks[root_rank] == _own():
            rows = torch.stack([each.detach() for each in inputs[i]])
        else:
            rows = torch.zeros(len(ranks), *wanted.shape, dtype=wanted.dtype, device=wanted.device)
        # Of rows that every rank sends, this one takes the root's.
        _put(wanted, collectives.exchange(rows, ranks)[root_rank])
    return outputs, finished_work(_flat(outputs))


@_kernel(C10D, "alltoall_")
def alltoall_(outputs: list[torch.Tensor], inputs: list[torch.Tensor], group: Any, *rest: Any) -> Any:
    """Write one tensor of each rank's list into a list of every rank."""
    ranks = ranks_of(group)
    flat = [each.detach().reshape(-1) for each in inputs]
    sent, received = [len(each) for each in flat], [each.numel() for each in outputs]
    came = collectives.exchange_uneven(torch.cat(flat), sent, received, ranks)
    _put_all(outputs, came.split(received))
    return outputs, finished_work(_flat(outputs))


@_kernel(C10D, "alltoall_base_")
def alltoall_base_(
    output: torch.Tensor, input: torch.Tensor, group: Any, output_sizes: list[int], input_sizes: list[int], *rest: Any
) -> Any:
    """Write rows of each rank's tensor into every rank's, equally many or as the sizes say."""
    ranks = ranks_of(group)
    if output_sizes or input_sizes:
        sent = input_sizes or [input.shape[0] // len(ranks)] * len(ranks)
        received = output_sizes or [output.shape[0] // len(ranks)] * len(ranks)
        _put(output, collectives.exchange_uneven(input.detach(), sent, received, ranks))
    else:
        _put(output, collectives.exchange(input, ranks))
    return finished_work()


@_kernel(C10D, "barrier")
def barrier(tensor: torch.Tensor, group: Any, *rest: Any) -> Any:
    """Wait until all ranks of a group have come here."""
    host_group(group).barrier().wait()
    return finished_work()


@_kernel(C10D, "monitored_barrier_")
def monitored_barrier_(tensor: torch.Tensor, group: Any, *rest: Any) -> None:
    """Wait until all ranks of a group have come here."""
    host_group(group).barrier().wait()


@_kernel(C10D, "send")
def send(tensors: list[torch.Tensor], group: Any, dst: int, tag: int) -> Any:
    """Send a tensor to one rank, by way of the hosts: XLA's programs have no part that only two ranks know of."""
    copies = [tensor.detach().cpu().contiguous() for tensor in tensors]
    work = host_group(group).send(copies, dst, tag)
    return delayed_work(work, lambda: copies.clear())


@_kernel(C10D, "recv_")
def recv_(tensors: list[torch.Tensor], group: Any, src: int, tag: int) -> Any:
    """Take a tensor from one rank, by way of the hosts; it has its values when the work is waited for."""
    came = [torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu") for tensor in tensors]
    work = host_group(group).recv(came, src, tag)
    return delayed_work(work, lambda: _receive(tensors, came))


@_kernel(C10D, "recv_any_source_")
def recv_any_source_(tensors: list[torch.Tensor], group: Any, tag: int) -> Any:
    """Take a tensor from whichever rank sends one, by way of the hosts."""
    came = [torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu") for tensor in tensors]
    work = host_group(group).recv_anysource(came, tag)
    return delayed_work(work, lambda: _receive(tensors, came))


def _receive(tensors: Sequence[torch.Tensor], came: Sequence[torch.Tensor]) -> None:
    for tensor, values in zip(tensors, came, strict=True):
        tensor.detach().copy_(values)


@_kernel(FUNCTIONAL, "all_reduce")
def all_reduce(input: torch.Tensor, reduce_op: str, group_name: Any) -> torch.Tensor:
    """Return a tensor reduced over a group."""
    return collectives.all_reduce([input], reduce_op, ranks_of(group_name))[0]


@_kernel(FUNCTIONAL, "all_reduce_")
def all_reduce_(input: torch.Tensor, reduce_op: str, group_name: Any) -> torch.Tensor:
    """Reduce a tensor in place over a group."""
    _put(input, all_reduce(input, reduce_op, group_name))
    return input


@_kernel(FUNCTIONAL, "all_reduce_coalesced")
def all_reduce_coalesced(inputs: list[torch.Tensor], reduce_op: str, group_name: Any) -> list[torch.Tensor]:
    """Return tensors reduced over a group, in one program."""
    return collectives.all_reduce(inputs, reduce_op, ranks_of(group_name))


@_kernel(FUNCTIONAL, "all_reduce_coalesced_")
def all_reduce_coalesced_(inputs: list[torch.Tensor], reduce_op: str, group_name: Any) -> list[torch.Tensor]:
    """Reduce tensors in place over a group, in one program."""
    _put_all(inputs, all_reduce_coalesced(inputs, reduce_op, group_name))
    return inputs


@_kernel(FUNCTIONAL, "all_gather_into_tensor")
def all_gather_into_tensor(input: torch.Tensor, group_size: int, group_name: Any) -> torch.Tensor:
    """Return the tensors of a group's ranks, one after the other."""
    return collectives.all_gather([input], ranks_of(group_name))[0]


@_kernel(FUNCTIONAL, "all_gather_into_tensor_out")
def all_gather_into_tensor_out(
    input: torch.Tensor, group_size: int, group_name: Any, *, out: torch.Tensor
) -> torch.Tensor:
    """Write the tensors of a group's ranks, one after the other, into one."""
    _put(out, all_gather_into_tensor(input, group_size, group_name))
    return out


@_kernel(FUNCTIONAL, "all_gather_into_tensor_coalesced")
def all_gather_into_tensor_coalesced(
    inputs: list[torch.Tensor], group_size: int, group_name: Any
) -> list[torch.Tensor]:
    """Return, for each of several tensors, those of a group's ranks one after the other, in one program."""
    return collectives.all_gather(inputs, ranks_of(group_name))


@_kernel(FUNCTIONAL, "reduce_scatter_tensor")
def reduce_scatter_tensor(input: torch.Tensor, reduce_op: str, group_size: int, group_name: Any) -> torch.Tensor:
    """Return this rank's share of the rows of a tensor reduced over a group."""
    return collectives.reduce_scatter([input], reduce_op, ranks_of(group_name))[0]


@_kernel(FUNCTIONAL, "reduce_scatter_tensor_out")
def reduce_scatter_tensor_out(
    input: torch.Tensor, reduce_op: str, group_size: int, group_name: Any, *, out: torch.Tensor
) -> torch.Tensor:
    """Write this rank's share of the rows of a tensor reduced over a group into another."""
    _put(out, reduce_scatter_tensor(input, reduce_op, group_size, group_name))
    return out


@_kernel(FUNCTIONAL, "reduce_scatter_tensor_coalesced")
def reduce_scatter_tensor_coalesced(
    inputs: list[torch.Tensor], reduce_op: str, group_size: int, group_name: Any
) -> list[torch.Tensor]:
    """Return this rank's share of the rows of several tensors reduced over a group, in one program."""
    return collectives.reduce_scatter(inputs, reduce_op, ranks_of(group_name))


@_kernel(FUNCTIONAL, "all_to_all_single")
def all_to_all_single(
    input: torch.Tensor, output_split_sizes: list[int], input_split_sizes: list[int], group_name: Any
) -> torch.Tensor:
    """Return the rows that a group's ranks send to this one."""
    return collectives.exchange_uneven(input, input_split_sizes, output_split_sizes, ranks_of(group_name))


@_kernel(FUNCTIONAL, "broadcast")
def broadcast(input: torch.Tensor, src: int, group_name: Any) -> torch.Tensor:
    """Return the tensor of one rank of a group."""
    return collectives.broadcast([input], src, ranks_of(group_name))[0]


@_kernel(FUNCTIONAL, "broadcast_")
def broadcast_in_place(input: torch.Tensor, src: int, group_name: Any) -> torch.Tensor:
    """Write the tensor of one rank of a group into that of every rank."""
    _put(input, broadcast(input, src, group_name))
    return input


@_kernel(FUNCTIONAL, "wait_tensor")
def wait_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """Return a collective's result: its memory is waited for where it is read."""
    return tensor


def shard_dim_alltoall(input: torch.Tensor, gather_dim: int, shard_dim: int, group_name: Any) -> torch.Tensor:
    """Return a shard of one dimension for one of another."""
    return collectives.shard_dim_alltoall(input, gather_dim, shard_dim, ranks_of(group_name))
