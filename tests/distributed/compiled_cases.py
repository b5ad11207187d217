"""Compiled models over several ranks, against one device on the CPU; run by each rank. Arguments: names of cases."""

from __future__ import annotations

import copy
import hashlib
import os
import signal
import sys
import threading
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.tensor import Replicate, init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import tpu_dynamo
import tpu_dynamo_runtime


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(12, 8)
        self.up = nn.Linear(8, 16)
        self.down = nn.Linear(16, 8)

    def forward(self, numbers):
        x = self.words(numbers)
        return x + self.down(F.gelu(self.up(x)))


PLAN = {"words": RowwiseParallel(input_layouts=Replicate()), "up": ColwiseParallel(), "down": RowwiseParallel()}


def close(name, ours, theirs):
    torch.testing.assert_close(ours.cpu(), theirs, rtol=5e-6, atol=5e-6, msg=lambda text: f"{name}: {text}")


def tensor_parallel(mesh):
    """A model in tensor parallel, forward and backward, with a vocabulary that is shared out."""
    torch.manual_seed(0)
    expected, numbers = Model(), torch.randint(0, 12, (4, 3))
    model = copy.deepcopy(expected).to("tpu")
    parallelize_module(model, mesh, PLAN)
    compiled = torch.compile(model, backend="tpu", fullgraph=True)
    found, wanted = compiled(numbers.to("tpu")), expected(numbers)
    found.square().sum().backward()
    wanted.square().sum().backward()
    close("result", found.full_tensor() if hasattr(found, "full_tensor") else found, wanted)
    for (name, ours), theirs in zip(model.named_parameters(), expected.parameters(), strict=True):
        grad = ours.grad.full_tensor() if hasattr(ours.grad, "full_tensor") else ours.grad
        close(name, grad, theirs.grad)


def functional(size):
    """Functional collectives in a compiled function, of two kinds of groups in one program."""
    import torch.distributed._functional_collectives as funcol

    mesh = init_device_mesh("tpu", (size // 2, 2) if size > 2 else (1, 2), mesh_dim_names=("a", "b"))
    rank = dist.get_rank()

    @torch.compile(backend="tpu", fullgraph=True)
    def compute(x):
        y = funcol.all_reduce(x * 2, "sum", mesh["b"])
        return funcol.all_gather_tensor(y, 0, mesh["a"]) + 1

    found = compute(torch.full((2,), float(rank), device="tpu"))
    rows = [list(range(2 * i, 2 * i + 2)) for i in range(size // 2)]
    close("functional", found, torch.cat([torch.full((2,), 2.0 * sum(row) + 1) for row in rows]))


def die_compiling():
    """End the process by a signal in the middle of XLA's first compilation of a graph."""
    compile_ = tpu_dynamo_runtime.Client.compile

    def compile_and_die(self, stablehlo, flags=(), span=()):
        if span:
            threading.Timer(0.02, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
            time.sleep(0.015)
        return compile_(self, stablehlo, flags, span)

    tpu_dynamo_runtime.Client.compile = compile_and_die


def note_compiles():
    """Print a line for each program that this rank compiles: its hash, and how many ranks it spans."""
    compile_ = tpu_dynamo_runtime.Client.compile

    def compile_and_note(self, stablehlo, flags=(), span=()):
        print(f"COMPILED {hashlib.sha256(stablehlo).hexdigest()} {len(span)}")
        return compile_(self, stablehlo, flags, span)

    tpu_dynamo_runtime.Client.compile = compile_and_note


def main():
    dist.init_process_group()
    note_compiles()
    if os.environ.get("KILL_RANK_0") and dist.get_rank() == 0:
        die_compiling()
    size = dist.get_world_size()
    mesh = init_device_mesh("tpu", (size // 2, 2), mesh_dim_names=("dp", "tp"))
    tensor_parallel(mesh["tp"])
    functional(size)
    stats = tpu_dynamo.stats()
    print(f"RESULT {stats.xla_compiles} {stats.cache_hits}", file=sys.stderr)
    dist.destroy_process_group()


main()
