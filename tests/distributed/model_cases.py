"""Models of torch.distributed over several ranks, against one CPU; run by each rank. Arguments: cases."""

from __future__ import annotations

import copy
import itertools
import sys

import torch
import torch.distributed as dist
import torch.nn.functional as F
from step_cases import adamw, blocks, full, in_tensor_parallel, muon, shard
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import (
    DTensor,
    Partial,
    Replicate,
    Shard,
    distribute_tensor,
    init_device_mesh,
    rand,
    randn,
)
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    loss_parallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

import tpu_dynamo


def train(wrap, *, compiled=True, optimizer=adamw, width=16, within=5e-6, split=True, max_grad_norm=None, twice=False):
    """Train in the ordinary loop. twice: the gradients of two halves of each batch are accumulated before one sync."""
    torch.manual_seed(0)
    expected = blocks(width)
    ours = wrap(copy.deepcopy(expected).to("tpu"))
    own, theirs = optimizer(ours.parameters()), optimizer(expected.parameters())
    torch._dynamo.reset()
    called = torch.compile(ours, backend="tpu") if compiled else ours
    rank, size = dist.get_rank(), dist.get_world_size()
    for x, y in torch.randn(3, 2, 16, 8):
        F.mse_loss(expected(x), y).backward()
        mine = [(t.chunk(size)[rank] if split else t).to("tpu") for t in (x, y)]
        halves = list(zip(*(t.chunk(2) for t in mine), strict=True)) if twice else [mine]
        for i, (a, b) in enumerate(halves):
            last = i == len(halves) - 1
            if isinstance(ours, DistributedDataParallel):
                ours.require_backward_grad_sync = last  # as no_sync() sets it
            elif twice:
                ours.set_requires_gradient_sync(last)
            (F.mse_loss(called(a), b) / len(halves)).backward()
        if max_grad_norm is not None:
            for model in (ours, expected):
                nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        for one in (own, theirs):
            one.step()
            one.zero_grad()
    pairs = zip(ours.parameters(), expected.parameters(), strict=True)
    found = max((full(a) - b).abs().max().item() for a, b in pairs)
    assert found < within, found


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(12, 8)
        self.norm = nn.LayerNorm(8)
        self.inner = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.out = nn.Linear(8, 12, bias=False)

    def forward(self, numbers):
        x = self.words(numbers)
        return self.out(x + self.inner(self.norm(x)))


def sequence_and_loss_parallel(mesh):
    plan = {
        "words": RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(1), use_local_output=False),
        "norm": SequenceParallel(use_local_output=False),
        "inner": PrepareModuleInput(input_layouts=(Shard(1),), desired_input_layouts=(Replicate(),)),
        "inner.0": ColwiseParallel(),
        "inner.2": RowwiseParallel(output_layouts=Shard(1), use_local_output=False),
        "out": ColwiseParallel(input_layouts=Shard(1), output_layouts=Shard(-1), use_local_output=False),
    }
    for compiled in (False, True):
        torch.manual_seed(0)
        expected = Words()
        model = parallelize_module(copy.deepcopy(expected).to("tpu"), mesh, plan)
        numbers, wanted = torch.randint(0, 12, (2, 2, 8))
        torch._dynamo.reset()
        called = torch.compile(model, backend="tpu") if compiled else model
        F.cross_entropy(expected(numbers).flatten(0, 1), wanted.flatten()).backward()
        with loss_parallel():
            F.cross_entropy(called(numbers.to("tpu")).flatten(0, 1), wanted.flatten().to("tpu")).backward()
        for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(full(ours.grad), theirs.grad, rtol=5e-6, atol=5e-6)


def redistribution(mesh):
    """Every pair of placements, in eager and in compiled; shards of several sizes in eager."""
    size = mesh.size()
    x = torch.arange(16.0 * size).view(2 * size, 8)
    for a, b in itertools.product((Replicate(), Shard(0), Shard(1), Partial()), (Replicate(), Shard(0), Shard(1))):
        if a.is_partial():
            given, wanted = DTensor.from_local(x.to("tpu"), mesh, [a]), x * size
        else:
            given, wanted = distribute_tensor(x.to("tpu"), mesh, [a]), x
        torch._dynamo.reset()
        moved = torch.compile(lambda t, b=b: t.redistribute(placements=[b]) * 2, backend="tpu", fullgraph=True)
        assert torch.equal(full(given.redistribute(placements=[b])), wanted), (a, b)
        found = moved(given)
        assert found.placements == (b,) and torch.equal(full(found), wanted * 2), (a, b)
    for rows, (a, b) in itertools.product((1, 5), itertools.product((Replicate(), Shard(0), Shard(1)), repeat=2)):
        t = torch.arange(3.0 * rows).view(rows, 3)
        assert torch.equal(full(distribute_tensor(t.to("tpu"), mesh, [a]).redistribute(placements=[b])), t)


def random_numbers(mesh):
    """Shards of a DTensor are drawn differently, replicas equally, and every rank's generator goes on alike."""
    torch.manual_seed(1)
    size = mesh.size()

    def differ(t):
        return len({tuple(each.flatten().tolist()) for each in full(t).chunk(size)}) == size

    assert differ(rand((2 * size, 8), device_mesh=mesh, placements=[Shard(0)]))
    copies = [torch.empty(8, 4, device="tpu") for _ in range(size)]
    dist.all_gather(copies, randn((8, 4), device_mesh=mesh, placements=[Replicate()]).to_local())
    assert all(torch.equal(copies[0].cpu(), each.cpu()) for each in copies)
    weight = nn.Parameter(distribute_tensor(torch.ones(8 * size, 64, device="tpu"), mesh, [Shard(0)]))
    nn.init.normal_(weight)
    assert differ(weight) and 0.9 < full(weight).std() < 1.1

    def dropped(t):
        return F.dropout(t, 0.5) * 3

    ones = distribute_tensor(torch.ones(2 * size, 64, device="tpu"), mesh, [Shard(0)])
    seen = []
    for function in (dropped, torch.compile(dropped, backend="tpu", fullgraph=True)):
        torch.manual_seed(7)
        seen.append(full(function(ones)))
        assert differ(seen[-1]) and set(seen[-1].unique().tolist()) == {0.0, 6.0}
        again = full(function(ones))
        assert not torch.equal(seen[-1], again)
    assert torch.equal(*seen), "compiled draws what eager draws"
    whole = distribute_tensor(torch.ones(64, device="tpu"), mesh, [Replicate()])
    dist.all_gather(copies := [torch.empty(64, device="tpu") for _ in range(size)], dropped(whole).to_local())
    assert all(torch.equal(copies[0].cpu(), each.cpu()) for each in copies)
    # The mask of the backward is the forward's.
    leaf = ones.detach().requires_grad_()
    out = torch.compile(dropped, backend="tpu")(leaf)
    out.sum().backward()
    assert torch.equal(full(leaf.grad), full(out))
    after = [torch.empty(4, device="tpu") for _ in range(size)]
    dist.all_gather(after, torch.rand(4, device="tpu"))
    assert all(torch.equal(after[0].cpu(), each.cpu()) for each in after)
    # In a whole step too.
    model = nn.Sequential(nn.Linear(64, 64), nn.Dropout(0.5)).to("tpu")
    parallelize_module(model, mesh, {"0": ColwiseParallel(use_local_output=False)})
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = full(model[0].bias)
    tpu_dynamo.train_step(model, optimizer, lambda y: y.sum())(torch.ones(1, 64, device="tpu"))
    assert differ(full(model[0].bias) - before)


def optimizers(mesh):
    settings = {
        "SGD": {"lr": 0.1, "momentum": 0.9}, "Adam": {"amsgrad": True}, "AdamW": {}, "Adagrad": {}, "Adadelta": {},
        "Adamax": {}, "NAdam": {}, "RAdam": {}, "ASGD": {}, "RMSprop": {"momentum": 0.9},
    }  # fmt: skip
    for name, given in settings.items():
        optimizer = getattr(torch.optim, name)
        train(shard(mesh), optimizer=lambda p, o=optimizer, k=given: o(p, **k), compiled=False, within=2e-5)
    # Its arithmetic in bfloat16 rounds differently where sums are made of shards.
    train(shard(mesh), optimizer=muon, compiled=False, within=2e-3)


def cases(size):
    mesh = init_device_mesh("tpu", (size,), mesh_dim_names=("d",))
    both = init_device_mesh("tpu", (2, size // 2), mesh_dim_names=("replicate", "shard"))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    tensor_parallel = in_tensor_parallel(mesh)
    return {
        "ddp": lambda: train(DistributedDataParallel, twice=True),
        "fsdp": lambda: train(shard(mesh), max_grad_norm=0.1, optimizer=lambda p: torch.optim.SGD(p, lr=0.1)),
        "hsdp": lambda: train(shard(both)),
        "tp": lambda: train(tensor_parallel, split=False),
        "random": lambda: random_numbers(mesh),
        "ddp_eager": lambda: train(DistributedDataParallel, twice=True, compiled=False),
        "ddp_buckets": lambda: train(
            lambda m: DistributedDataParallel(m, bucket_cap_mb=0.0002, gradient_as_bucket_view=True), compiled=False
        ),
        "fsdp_eager": lambda: train(shard(mesh), compiled=False, twice=True),
        "fsdp_kept": lambda: train(shard(mesh, reshard_after_forward=False), twice=True),
        "fsdp_uneven": lambda: train(shard(mesh), width=9),
        "fsdp_mixed": lambda: train(shard(mesh, mp_policy=policy), within=4e-2),
        "tp_eager": lambda: train(tensor_parallel, split=False, compiled=False),
        "sequence": lambda: sequence_and_loss_parallel(mesh),
        "redistribution": lambda: redistribution(mesh),
        "optimizers": lambda: optimizers(mesh),
    }


def main():
    dist.init_process_group()
    table = cases(dist.get_world_size())
    for name in sys.argv[1:] or table:
        print(name, flush=True)
        table[name]()
    print(f"RESULT {tpu_dynamo.stats().xla_compiles}")
    dist.destroy_process_group()


main()
