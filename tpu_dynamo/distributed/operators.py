"""The operators of c10d on device tensors, which write to tensors; torch.distributed's functions call them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..device import NAME as DEVICE
from ..device.tensor_memory import order_of, read, write
from . import collectives
from ._torch_compat import broadcast_options, delayed_work, finished_work, host_backend, ranks_of, reduction_of

Kernel = Callable[..., Any]

C10D: dict[str, Kernel] = {}


def _kernel(name: str) -> Callable[[Kernel], Kernel]:
    def enter(function: Kernel) -> Kernel:
        C10D[name] = function
        return function

    return enter


def put(target: torch.Tensor, value: torch.Tensor) -> None:
    """Write a collective's result into a tensor, below autograd, which knows nothing of c10d's operators."""
    target, value = target.detach(), value.detach()
    if target.dtype != value.dtype:
        raise RuntimeError(f"a collective of {value.dtype} tensors cannot write to one of {target.dtype}")
    order = order_of(target)
    write(target, read(value.reshape(target.shape), order), order)


def _flat(outputs: Sequence[Any]) -> list[torch.Tensor]:
    return [each for one in outputs for each in (one if isinstance(one, list) else [one])]


def put_all(targets: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> None:
    for target, value in zip(targets, values, strict=True):
        put(target, value)


def _are_bytes(tensors: Sequence[torch.Tensor]) -> bool:
    """Tell whether tensors are pickled objects, as lists of objects cross: of ever other lengths, and of the hosts'."""
    return all(tensor.dtype == torch.uint8 and tensor.ndim == 1 for tensor in tensors)


@_kernel("allreduce_")
def allreduce_(tensors: list[torch.Tensor], group: Any, op: Any, sparse: Any = None, *rest: Any) -> Any:
    """Reduce tensors in place over a group."""
    if sparse is not None:
        raise NotImplementedError("all_reduce of sparse tensors: the device has dense tensors only")
    put_all(tensors, collectives.all_reduce(tensors, reduction_of(op), ranks_of(group)))
    return tensors, finished_work(tensors)


@_kernel("allreduce_coalesced_")
def allreduce_coalesced_(tensors: list[torch.Tensor], group: Any, op: Any, *rest: Any) -> Any:
    """Reduce tensors in place over a group, in one program."""
    put_all(tensors, collectives.all_reduce(tensors, reduction_of(op), ranks_of(group)))
    return finished_work()


@_kernel("broadcast_")
def broadcast_(tensors: list[torch.Tensor], group: Any, root_rank: int, root_tensor: int, *rest: Any) -> Any:
    """Write the root's tensors into those of all ranks."""
    if _are_bytes(tensors):
        came = [tensor.detach().cpu() for tensor in tensors]
        host_backend(group).broadcast(came, broadcast_options(root_rank)).wait()
        put_all(tensors, [each.to(DEVICE) for each in came])
        return tensors, finished_work(tensors)
    put_all(tensors, collectives.broadcast(tensors, root_rank, ranks_of(group)))
    return tensors, finished_work(tensors)


def _gathered(tensor: torch.Tensor, ranks: Sequence[int]) -> Sequence[torch.Tensor]:
    return collectives.all_gather([tensor.detach().unsqueeze(0)], tuple(ranks))[0].unbind()


@_kernel("allgather_")
def allgather_(outputs: list[list[torch.Tensor]], inputs: list[torch.Tensor], group: Any, *rest: Any) -> Any:
    """Write every rank's tensor into a list on all ranks; they may have different shapes."""
    ranks = ranks_of(group)
    for wanted, tensor in zip(outputs, inputs, strict=True):
        if _are_bytes([tensor]):
            came = [torch.empty(each.shape, dtype=each.dtype, device="cpu") for each in wanted]
            host_backend(group).allgather([came], [tensor.detach().cpu()]).wait()
            put_all(wanted, [each.to(DEVICE) for each in came])
        elif all(each.shape == tensor.shape for each in wanted):
            put_all(wanted, _gathered(tensor, ranks))
        else:
            for place, each in enumerate(wanted):
                sent = tensor if each.shape == tensor.shape else torch.zeros_like(each)
                put(each, collectives.broadcast([sent], place, ranks)[0])
    return outputs, finished_work(_flat(outputs))


@_kernel("_allgather_base_")
def _allgather_base_(output: torch.Tensor, input: torch.Tensor, group: Any, *rest: Any) -> Any:
    """Write every rank's tensor, one after the other, into one on all ranks."""
    put(output, collectives.all_gather([input], ranks_of(group))[0])
    return output, finished_work([output])


@_kernel("allgather_coalesced_")
def allgather_coalesced_(outputs: list[list[torch.Tensor]], inputs: list[torch.Tensor], group: Any, *rest: Any) -> Any:
    """Write every rank's list of tensors into a list of lists on all ranks."""
    found = collectives.all_gather([tensor.detach().unsqueeze(0) for tensor in inputs], ranks_of(group))
    for place, wanted in enumerate(outputs):
        put_all(wanted, [each[place] for each in found])
    return finished_work()


@_kernel("allgather_into_tensor_coalesced_")
def allgather_into_tensor_coalesced_(
    outputs: list[torch.Tensor], inputs: list[torch.Tensor], group: Any, *rest: Any
) -> Any:
    """Write every rank's tensors, one rank's after the other's, into tensors on all ranks, in one program."""
    put_all(outputs, collectives.all_gather(inputs, ranks_of(group)))
    return finished_work()


@_kernel("reduce_")
def reduce_(tensors: list[torch.Tensor], group: Any, op: Any, root_rank: int, *rest: Any) -> Any:
    """Reduce tensors over a group, into the root's alone."""
    ranks = ranks_of(group)
    found = collectives.all_reduce(tensors, reduction_of(op), ranks)
    if ranks[root_rank] == _own():
        put_all(tensors, found)
    return finished_work()


def _own() -> int:
    return torch.distributed.get_rank()


@_kernel("reduce_scatter_")
def reduce_scatter_(
    outputs: list[torch.Tensor], inputs: list[list[torch.Tensor]], group: Any, op: Any, *rest: Any
) -> Any:
    """Reduce a list of tensors over a group, of which each rank gets one."""
    ranks, reduction = ranks_of(group), reduction_of(op)
    for wanted, tensors in zip(outputs, inputs, strict=True):
        if all(each.shape == wanted.shape for each in tensors):
            put(wanted, collectives.reduce_scatter([torch.stack(tensors)], reduction, ranks)[0][0])
            continue
        found = collectives.all_reduce(tensors, reduction, ranks)  # shares of several sizes
        put(wanted, found[ranks.index(_own())])
    return outputs, finished_work(_flat(outputs))


@_kernel("_reduce_scatter_base_")
def _reduce_scatter_base_(output: torch.Tensor, input: torch.Tensor, group: Any, op: Any, *rest: Any) -> Any:
    """Reduce a tensor over a group, of which each rank gets its share of the elements."""
    ranks = ranks_of(group)
    rows = input.detach().reshape(len(ranks), *output.shape)
    put(output, collectives.reduce_scatter([rows], reduction_of(op), ranks)[0])
    return output, finished_work([output])


@_kernel("reduce_scatter_tensor_coalesced_")
def reduce_scatter_tensor_coalesced_(
    outputs: list[torch.Tensor], inputs: list[torch.Tensor], group: Any, op: Any, *rest: Any
) -> Any:
    """Reduce tensors over a group, of which each rank gets its share of the elements, in one program."""
    ranks = ranks_of(group)
    rows = [each.detach().reshape(len(ranks), *out.shape) for each, out in zip(inputs, outputs, strict=True)]
    put_all(outputs, collectives.reduce_scatter(rows, reduction_of(op), ranks))
    return finished_work()


@_kernel("gather_")
def gather_(
    outputs: list[list[torch.Tensor]], inputs: list[torch.Tensor], group: Any, root_rank: int, *rest: Any
) -> Any:
    """Write every rank's tensor into a list of the root's."""
    ranks = ranks_of(group)
    found = [_gathered(tensor, ranks) for tensor in inputs]
    if ranks[root_rank] == _own():
        for wanted, values in zip(outputs, found, strict=True):
            put_all(wanted, values)
    return finished_work()


@_kernel("scatter_")
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
        put(wanted, collectives.exchange(rows, ranks)[root_rank])
    return outputs, finished_work(_flat(outputs))


@_kernel("alltoall_")
def alltoall_(outputs: list[torch.Tensor], inputs: list[torch.Tensor], group: Any, *rest: Any) -> Any:
    """Write one tensor of each rank's list into a list of every rank."""
    ranks = ranks_of(group)
    flat = [each.detach().reshape(-1) for each in inputs]
    sent, received = [len(each) for each in flat], [each.numel() for each in outputs]
    came = collectives.exchange_uneven(torch.cat(flat), sent, received, ranks)
    put_all(outputs, came.split(received))
    return outputs, finished_work(_flat(outputs))


@_kernel("alltoall_base_")
def alltoall_base_(
    output: torch.Tensor, input: torch.Tensor, group: Any, output_sizes: list[int], input_sizes: list[int], *rest: Any
) -> Any:
    """Write rows of each rank's tensor into every rank's, equally many or as the sizes say."""
    ranks = ranks_of(group)
    if output_sizes or input_sizes:
        sent = input_sizes or [input.shape[0] // len(ranks)] * len(ranks)
        received = output_sizes or [output.shape[0] // len(ranks)] * len(ranks)
        put(output, collectives.exchange_uneven(input.detach(), sent, received, ranks))
    else:
        put(output, collectives.exchange(input, ranks))
    return finished_work()


@_kernel("barrier")
def barrier(tensor: torch.Tensor, group: Any, *rest: Any) -> Any:
    """Wait until all ranks of a group have come here."""
    host_backend(group).barrier().wait()
    return finished_work()


@_kernel("monitored_barrier_")
def monitored_barrier_(tensor: torch.Tensor, group: Any, *rest: Any) -> None:
    """Wait until all ranks of a group have come here."""
    host_backend(group).barrier().wait()


@_kernel("send")
def send(tensors: list[torch.Tensor], group: Any, dst: int, tag: int) -> Any:
    """Send a tensor to one rank, by way of the hosts: XLA's programs have no part that only two ranks know of."""
    copies = [tensor.detach().cpu().contiguous() for tensor in tensors]
    work = host_backend(group).send(copies, dst, tag)
    return delayed_work(work, lambda: copies.clear())


@_kernel("recv_")
def recv_(tensors: list[torch.Tensor], group: Any, src: int, tag: int) -> Any:
    """Take a tensor from one rank, by way of the hosts; it has its values when the work is waited for."""
    came = [torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu") for tensor in tensors]
    work = host_backend(group).recv(came, src, tag)
    return delayed_work(work, lambda: _receive(tensors, came))


@_kernel("recv_any_source_")
def recv_any_source_(tensors: list[torch.Tensor], group: Any, tag: int) -> Any:
    """Take a tensor from whichever rank sends one, by way of the hosts."""
    came = [torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu") for tensor in tensors]
    work = host_backend(group).recv_anysource(came, tag)
    return delayed_work(work, lambda: _receive(tensors, came))


def _receive(tensors: Sequence[torch.Tensor], came: Sequence[torch.Tensor]) -> None:
    for tensor, values in zip(tensors, came, strict=True):
        tensor.detach().copy_(values)
