"""Eager collectives on device tensors: each kind of call is one program of a group's ranks, compiled at the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..device.cells import wrap
from ..device.operator_programs import DeviceProgram, compile_program
from ..device.tensor_memory import read
from ..users_line import users_line
from .groups import Group

functional = torch.ops._c10d_functional

# By what is computed, the operands' shapes and dtypes, and the ranks.
_programs: dict[Any, DeviceProgram] = {}
_MAX_PROGRAMS = 4096


def collective(
    name: str, function: Callable[..., Sequence[torch.Tensor]], tensors: Sequence[torch.Tensor], ranks: Group
) -> list[torch.Tensor]:
    """Run a function of tensors that has collectives with the other ranks of a group; return its results.

    name: equal for calls of equal functions. function: takes the group as text, then the tensors; every rank of the
    group calls it on tensors of the same shapes. Raises UnsupportedOp, ProgramsDiffer, RankMissing and JobError.
    """
    specs = [(tuple(tensor.shape), tensor.dtype) for tensor in tensors]
    key = name, tuple(specs), ranks
    program = _programs.get(key)
    if program is None:
        span = tuple(sorted(ranks))
        text = ",".join(str(span.index(rank)) for rank in ranks)
        meta = [(shape, torch.empty(shape, device="meta").stride(), dtype) for shape, dtype in specs]
        program = compile_program(lambda *given: function(text, *given), meta, span, users_line())
        if len(_programs) >= _MAX_PROGRAMS:
            _programs.clear()
        _programs[key] = program
    operands = [read(tensors[position], order) for position, order in program.operands]
    buffers = program(operands)
    results = []
    for output in program.outputs:
        spec = program.results[output.result]  # pyright: ignore[reportAttributeAccessIssue]
        results.append(wrap(buffers[output.result], spec.shape, spec.dtype, spec.order))  # pyright: ignore[reportAttributeAccessIssue]
    return results


def all_reduce(tensors: Sequence[torch.Tensor], reduce_op: str, ranks: Group) -> list[torch.Tensor]:
    """Return each tensor reduced over a group's ranks."""
    return collective(
        f"all_reduce {reduce_op}",
        lambda group, *given: [functional.all_reduce(each, reduce_op, group) for each in given],
        tensors,
        ranks,
    )


def all_gather(tensors: Sequence[torch.Tensor], ranks: Group) -> list[torch.Tensor]:
    """Return, for each tensor, those of the ranks one after the other along the first dimension."""
    size = len(ranks)
    return collective(
        "all_gather",
        lambda group, *given: [functional.all_gather_into_tensor(each, size, group) for each in given],
        tensors,
        ranks,
    )


def reduce_scatter(tensors: Sequence[torch.Tensor], reduce_op: str, ranks: Group) -> list[torch.Tensor]:
    """Return, for each tensor, this rank's share of the rows after they were reduced over the ranks."""
    size = len(ranks)
    return collective(
        f"reduce_scatter {reduce_op}",
        lambda group, *given: [functional.reduce_scatter_tensor(each, reduce_op, size, group) for each in given],
        tensors,
        ranks,
    )


def broadcast(tensors: Sequence[torch.Tensor], source: int, ranks: Group) -> list[torch.Tensor]:
    """Return the tensors of the rank at place `source` of a group."""
    return collective(
        f"broadcast {source}",
        lambda group, *given: [functional.broadcast(each, source, group) for each in given],
        tensors,
        ranks,
    )


def exchange(tensor: torch.Tensor, ranks: Group) -> torch.Tensor:
    """Return what each rank sends to this one of its rows, of which all ranks send all others equally many."""

    def function(group: str, given: torch.Tensor) -> list[torch.Tensor]:
        share = [given.shape[0] // len(ranks)] * len(ranks)
        return [functional.all_to_all_single(given, share, share, group)]

    return collective("all_to_all", function, [tensor], ranks)[0]


def exchange_uneven(tensor: torch.Tensor, sent: Sequence[int], received: Sequence[int], ranks: Group) -> torch.Tensor:
    """Return what each rank sends to this one, of rows of which ranks send each other differently many.

    sent, received: how many rows go to each rank and come from each. Shares are padded to the largest one of all ranks,
    which they tell each other first.
    """
    most = torch.tensor(max((*sent, *received)), device=tensor.device)
    largest = 1 << (max(1, int(all_reduce([most], "max", ranks)[0])) - 1).bit_length()  # few sizes, few programs
    padded = tensor.new_zeros(len(ranks), largest, *tensor.shape[1:])
    for place, rows in enumerate(tensor.split(list(sent))):
        padded[place, : len(rows)] = rows
    came = exchange(padded.flatten(0, 1), ranks).view(padded.shape)
    return torch.cat([came[place, :rows] for place, rows in enumerate(received)])


def shard_dim_alltoall(tensor: torch.Tensor, gather_dim: int, shard_dim: int, ranks: Group) -> torch.Tensor:
    """Return a tensor sharded along `shard_dim` of what is sharded along `gather_dim` over a group's ranks."""
    size = len(ranks)

    def function(group: str, given: torch.Tensor) -> list[torch.Tensor]:
        pieces = torch.stack(given.chunk(size, shard_dim)).flatten(0, 1)
        share = [pieces.shape[0] // size] * size
        came = functional.all_to_all_single(pieces, share, share, group)
        return [torch.cat(came.chunk(size), gather_dim)]

    return collective(f"shard_dim_alltoall {gather_dim} {shard_dim}", function, [tensor], ranks)[0]
