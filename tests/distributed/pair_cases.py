"""Transfers between two ranks, pipelines, DDP, groups of gloo, gradients of collectives. Run by each rank.

Arguments: names of cases, by default all.
"""

from __future__ import annotations

import copy
import sys

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as funcol
from torch import nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe
from torch.nn.parallel import DistributedDataParallel

import tpu_dynamo


def same(name, ours, theirs):
    torch.testing.assert_close(ours.cpu(), theirs, rtol=5e-6, atol=5e-6, msg=lambda text: f"{name}: {text}")


def filled(value, *shape, dtype=torch.float32):
    return torch.full(shape or (3,), value, dtype=dtype, device="tpu")


def transfers(rank):
    """Tensors of several kinds, in either order of the two sides, by tags and from anyone."""
    other = 1 - rank
    for dtype in (torch.float32, torch.bfloat16, torch.int64, torch.bool):
        found = filled(0, 2, 3, dtype=dtype).t()  # not in row-major order
        works = [dist.isend(filled(rank + 1, 3, 2, dtype=dtype), other), dist.irecv(found, other)]
        for work in reversed(works):
            work.wait()
        same(f"isend of {dtype}", found, torch.full((3, 2), other + 1, dtype=dtype))
    first, second = filled(0), filled(0)
    if rank == 0:
        sent = [dist.isend(filled(float(tag)), 1, tag=tag) for tag in (1, 2)]
        dist.recv(first)
        same("any source", first, torch.full((3,), 5.0))
        for work in sent:
            work.wait()
    else:
        dist.recv(second, 0, tag=2)
        dist.recv(first, 0, tag=1)
        same("tags", torch.stack([first, second]), torch.tensor([[1.0] * 3, [2.0] * 3]))
        dist.send(filled(5.0), 0)
    nothing = filled(0, 0, 4)
    for work in dist.batch_isend_irecv(
        [dist.P2POp(dist.irecv, nothing, other), dist.P2POp(dist.isend, nothing, other)]
    ):
        work.wait()
    objects = [None]
    if rank == 0:
        dist.send_object_list([{"a": 1}], 1)
    else:
        dist.recv_object_list(objects, 0)
        assert objects == [{"a": 1}]


def gradients(rank, size):
    """Collectives that autograd goes through, eager and compiled."""

    def compute(x):
        y = funcol.all_gather_tensor_autograd(x * 2, 0, dist.group.WORLD)
        y = funcol.all_to_all_single_autograd(y * (rank_weight + 1), [2] * size, [2] * size, dist.group.WORLD)
        return funcol.reduce_scatter_tensor_autograd(y * y, "sum", 0, dist.group.WORLD)

    rank_weight = filled(float(rank), 1)
    found = []
    for function in (compute, torch.compile(compute, backend="tpu", fullgraph=True)):
        x = (torch.arange(4.0).view(2, 2) + rank).to("tpu").requires_grad_()
        result = function(x)
        result.sum().backward()
        found.append((result.detach().cpu(), x.grad.cpu()))
    every = [(torch.arange(4.0).view(2, 2) + r).requires_grad_() for r in range(size)]
    whole = torch.cat([x * 2 for x in every])
    sent = [whole * (r + 1) for r in range(size)]
    came = [torch.cat([each.chunk(size)[r] for each in sent]) for r in range(size)]
    results = sum(each * each for each in came).chunk(size)
    sum(each.sum() for each in results).backward()
    for result, grad in found:
        same("reduce_scatter of gathered", result, results[rank].detach())
        same("its gradient", grad, every[rank].grad)


def permutation():
    """A permutation that is compiled: ranks would have different programs, which is said."""

    def permute(x):
        return funcol.permute_tensor(x, [1, 0], dist.group.WORLD)

    try:
        torch.compile(permute, backend="tpu", fullgraph=True)(filled(1.0, 4))
    except torch._dynamo.exc.TorchDynamoException as error:
        assert "gather the tensors and take one" in str(error) and "pair_cases.py" in str(error), error
    else:
        raise AssertionError("it was compiled")


def gloo(rank, size):
    """A group whose only backend is gloo takes the device's tensors by way of the hosts, and so does DDP."""
    group = dist.new_group(backend="gloo")
    x = filled(rank + 1.0)
    dist.all_reduce(x, group=group)
    same("all_reduce", x, torch.full((3,), 3.0))
    parts = [filled(0) for _ in range(size)]
    dist.all_gather(parts, filled(float(rank)), group=group)
    same("all_gather", torch.stack(parts), torch.tensor([[0.0] * 3, [1.0] * 3]))
    dist.broadcast(x := filled(float(rank)), 1, group=group)
    same("broadcast", x, torch.ones(3))
    same("functional", funcol.all_reduce(filled(1.0), "sum", group), torch.full((3,), 2.0))
    same("functional, gathered", funcol.all_gather_tensor(filled(float(rank), 1), 0, group), torch.arange(2.0))
    works = [dist.isend(filled(rank + 1.0), 1 - rank, group=group), dist.irecv(x, 1 - rank, group=group)]
    for work in works:
        work.wait()
    same("isend", x, torch.full((3,), 2.0 - rank))
    distributed_data_parallel(rank, group)


def distributed_data_parallel(rank, group=None):
    """DDP, in the ways that look at parameters nobody used, which need pinned tensors in C++."""
    torch.manual_seed(0)
    expected = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])
    for options in ({"init_sync": False}, {"find_unused_parameters": True}, {"static_graph": True}):
        layers = copy.deepcopy(expected)[: 1 if "init_sync" in options else 2]
        model = DistributedDataParallel(Used(layers).to("tpu"), process_group=group, **options)
        for _ in range(2):
            model.zero_grad()
            model(filled(rank + 1.0, 4, 3)).square().sum().backward()
        reference = copy.deepcopy(expected)
        (sum(reference[0](torch.full((4, 3), r + 1.0)).square().sum() for r in range(2)) / 2).backward()
        same(f"ddp {options}", model.module.layers[0].weight.grad, reference[0].weight.grad)


class Used(nn.Module):
    """A model of which only the first layer is used."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x):
        return self.layers[0](x)


def pipelines(rank, size):
    """Two stages, four micro-batches, eager and compiled: losses and gradients of the whole model."""
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4)) for _ in range(size)]
    x, target = torch.randn(8, 4), torch.randn(8, 4)
    whole = copy.deepcopy(nn.Sequential(*layers))
    losses = [nn.functional.mse_loss(whole(a), b) for a, b in zip(x.chunk(4), target.chunk(4), strict=True)]
    (sum(losses) / 4).backward()
    for schedule in (ScheduleGPipe, Schedule1F1B):
        for compiled in (False, True):
            module = copy.deepcopy(layers[rank]).to("tpu")
            run = torch.compile(module, backend="tpu") if compiled else module
            stage = PipelineStage(run, rank, size, torch.device("tpu"))
            steps = schedule(stage, n_microbatches=4, loss_fn=nn.functional.mse_loss)
            found = []
            if rank == 0:
                steps.step(x.to("tpu"))
            else:
                steps.step(target=target.to("tpu"), losses=found)
                same("losses", torch.stack([each.detach() for each in found]), torch.stack(losses).detach())
            for name, ours in module.named_parameters():
                same(f"{schedule.__name__} {name}", ours.grad, whole[rank].get_parameter(name).grad)


CASES = {
    "ddp": lambda rank, size: distributed_data_parallel(rank),
    "transfers": lambda rank, size: transfers(rank),
    "gradients": gradients,
    "permutation": lambda rank, size: permutation(),
    "gloo": gloo,
    "pipelines": pipelines,
}


def main():
    dist.init_process_group()
    for name in sys.argv[1:] or CASES:
        CASES[name](dist.get_rank(), dist.get_world_size())
    print("done", tpu_dynamo.stats().xla_compiles)
    dist.destroy_process_group()


main()
