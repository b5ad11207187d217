"""Ranks that do not do the same, or die; run by each rank. Argument: the case."""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist

import tpu_dynamo
from tpu_dynamo.distributed.agreement import ProgramsDiffer, RankMissing


def differ(rank):
    """Eager and compiled programs that depend on the rank: all ranks get an error that shows how."""
    x = torch.ones(4, device="tpu")

    @torch.compile(backend="tpu")
    def compute(x):
        import torch.distributed._functional_collectives as funcol

        y = x * 2 if dist.get_rank() else x + 1  # the branch
        return funcol.all_reduce(y, "sum", dist.group.WORLD)

    try:
        compute(x)
    except (ProgramsDiffer, torch._dynamo.exc.BackendCompilerFailed) as error:
        print(str(error))
    try:
        dist.all_reduce(x) if rank else dist.all_reduce(torch.ones(5, device="tpu"))
    except ProgramsDiffer as error:
        print(str(error))
    # Afterwards the ranks can still work together.
    dist.all_reduce(x := torch.ones(2, device="tpu"))
    print("then", x.tolist())


def order(rank):
    """Programs that all ranks know, in another order on one of them: all get an error with both lines."""
    small, large = torch.ones(3, device="tpu"), torch.ones(400, device="tpu")
    for each in (small, large):
        dist.all_reduce(each)
    try:
        if rank == 1:
            dist.all_reduce(large)  # the other order
        dist.all_reduce(small)
    except ProgramsDiffer as error:
        print(str(error))
    dist.all_reduce(large)
    print("then", large[0].item())


def ended(rank):
    """A rank that ends without a collective that the others wait in."""
    if rank == 0:
        started = time.monotonic()
        try:
            dist.all_reduce(torch.ones(3, device="tpu"))
        except RankMissing as error:
            print(f"{time.monotonic() - started < 30} {error}")


def killed(rank):
    """A rank that is killed while the others wait in a program."""
    x = torch.ones(3, device="tpu")
    dist.all_reduce(x)
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    for _ in range(10_000):
        dist.all_reduce(x)
        time.sleep(0.01)


def main():
    dist.init_process_group(timeout=timedelta(seconds=60))
    rank = dist.get_rank()
    {"differ": differ, "order": order, "ended": ended, "killed": killed}[sys.argv[1]](rank)
    assert tpu_dynamo.stats().executions >= 0


main()
