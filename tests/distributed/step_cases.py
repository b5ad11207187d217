"""Whole training steps over several ranks, against eager steps on one CPU; run by each rank. Arguments: cases."""

from __future__ import annotations

import copy
import sys

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

import tpu_dynamo


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up = nn.Linear(8, width)
        self.down = nn.Linear(width, 8)

    def forward(self, x):
        return x + self.down(F.gelu(self.up(x)))


class Normed(nn.Module):
    """A model that writes to its buffers."""

    def __init__(self, width):
        super().__init__()
        self.block = Block(width)
        self.norm = nn.BatchNorm1d(8, affine=False)

    def forward(self, x):
        return self.norm(self.block(x))


def blocks(width):
    return nn.Sequential(Block(width), Block(width))


def full(tensor):
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().cpu()


def shard(mesh, **settings):
    def wrap(model):
        for block in model:
            fully_shard(block, mesh=mesh, **settings)
        return fully_shard(model, mesh=mesh, **settings)

    return wrap


def in_tensor_parallel(mesh):
    def wrap(model):
        for block in model:
            parallelize_module(block, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
        return model

    return wrap


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=1e-2)


def trained(wrap, optimizer=adamw, *, split=True, model=blocks, width=16, max_grad_norm=None, then=None):
    """Train for three steps as one executable each; return the largest difference from one CPU, and the model."""
    torch.manual_seed(0)
    expected = model(width)
    ours = copy.deepcopy(expected).to("tpu")
    batches = torch.randn(3, 2, 16, 8)
    ours = wrap(ours)
    own, theirs = optimizer(ours.parameters()), optimizer(expected.parameters())
    torch._dynamo.reset()
    step = tpu_dynamo.train_step(
        ours, own, lambda y, wanted: F.mse_loss(y.float(), wanted), max_grad_norm=max_grad_norm
    )
    rank, size = dist.get_rank(), dist.get_world_size()
    for number, (x, y) in enumerate(batches):
        # What each rank has of the batch is a batch by itself to normalisation.
        parts = zip(x.chunk(size), y.chunk(size), strict=True) if split else [(x, y)]
        sum(F.mse_loss(expected(a), b) / (size if split else 1) for a, b in parts).backward()
        if max_grad_norm is not None:
            nn.utils.clip_grad_norm_(expected.parameters(), max_grad_norm)
        theirs.step()
        theirs.zero_grad()
        mine = [(t.chunk(size)[rank] if split else t).to("tpu") for t in (x, y)]
        executions = tpu_dynamo.stats().executions
        loss = step(*mine)
        assert number == 0 or tpu_dynamo.stats().executions == executions + 1
        assert loss.isfinite().item()
    pairs = list(zip(ours.parameters(), expected.parameters(), strict=True))
    found = max((full(a) - b).abs().max().item() for a, b in pairs)
    if then is not None:
        then(ours, own)
    return found, ours, expected


def close(*given, within=5e-6, **settings):
    found, *_ = trained(*given, **settings)
    assert found < within, found


def eager_afterwards(model, optimizer):
    """A `fully_shard` model is as before outside of steps: its hooks gather, and state and names are DTensors'."""
    assert "0.up.weight" in model.state_dict()
    before = full(next(model.parameters()))
    F.mse_loss(model(torch.ones(2, 8, device="tpu")), torch.zeros(2, 8, device="tpu")).backward()
    optimizer.step()
    assert not torch.equal(full(next(model.parameters())), before)


def refused(error, words, *given, **settings):
    try:
        trained(*given, **settings)
    except error as found:
        assert words in str(found), found
    else:
        raise AssertionError(f"no {error.__name__}")


def data_parallel(sgd):
    close(DistributedDataParallel, sgd, model=Normed)
    # Every step begins with the first rank's buffers.
    model = DistributedDataParallel(Normed(8).to("tpu"))
    step = tpu_dynamo.train_step(model, sgd(model.parameters()), F.mse_loss)
    model.module.norm.running_mean.fill_(100.0 * dist.get_rank())
    step(torch.ones(4, 8, device="tpu"), torch.ones(4, 8, device="tpu"))
    assert model.module.norm.running_mean.abs().max().item() < 50
    hooked = DistributedDataParallel(blocks(8).to("tpu"))
    hooked.register_comm_hook(None, lambda state, bucket: bucket.get_future())
    refused(NotImplementedError, "communication hooks", lambda model: hooked)


def mixed_precision(mesh):
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, output_dtype=torch.float32)
    found, ours, _ = trained(shard(mesh, mp_policy=policy))
    assert found < 4e-2, found
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    # As FSDP2 itself computes it.
    torch.manual_seed(0)
    other = blocks(16).to("tpu")
    batches = torch.randn(3, 2, 16, 8)
    other = shard(mesh, mp_policy=policy)(other)
    optimizer = torch.optim.AdamW(other.parameters(), lr=1e-2)
    for x, y in batches:
        mine = (t.chunk(dist.get_world_size())[dist.get_rank()].to("tpu") for t in (x, y))
        inputs, wanted = mine
        F.mse_loss(other(inputs), wanted).backward()
        optimizer.step()
        optimizer.zero_grad()
    pairs = zip(ours.parameters(), other.parameters(), strict=True)
    apart = max((full(a) - full(b)).abs().mean().item() for a, b in pairs)
    assert apart < 2e-3, apart


def two_dimensions(size):
    """Tensor parallel within `fully_shard`."""
    mesh = init_device_mesh("tpu", (size // 2, 2), mesh_dim_names=("dp", "tp"))

    def wrap(model):
        in_tensor_parallel(mesh["tp"])(model)
        return shard(mesh["dp"])(model)

    torch.manual_seed(0)
    expected = blocks(16)
    ours = wrap(copy.deepcopy(expected).to("tpu"))
    x, y = torch.randn(2, 8, 8)
    own, theirs = adamw(ours.parameters()), adamw(expected.parameters())
    step = tpu_dynamo.train_step(ours, own, F.mse_loss, max_grad_norm=0.1)
    place = mesh.get_local_rank("dp")
    for _ in range(2):
        step(*(t.chunk(size // 2)[place].to("tpu") for t in (x, y)))
        F.mse_loss(expected(x), y).backward()
        nn.utils.clip_grad_norm_(expected.parameters(), 0.1)
        theirs.step()
        theirs.zero_grad()
    found = max((full(a) - b).abs().max().item() for a, b in zip(ours.parameters(), expected.parameters(), strict=True))
    assert found < 1e-5, found


def muon(parameters):
    return torch.optim.Muon([p for p in parameters if p.ndim == 2], lr=0.01)


def cases(size):
    mesh = init_device_mesh("tpu", (size,), mesh_dim_names=("d",))
    both = init_device_mesh("tpu", (2, size // 2), mesh_dim_names=("replicate", "shard"))

    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)

    def adafactor(parameters):
        return torch.optim.Adafactor(parameters, lr=0.01)

    tensor_parallel = in_tensor_parallel(mesh)
    return {
        "tensor_parallel": lambda: close(tensor_parallel, sgd, split=False, max_grad_norm=0.1),
        "fully_shard": lambda: close(shard(mesh), then=eager_afterwards),
        "data_parallel": lambda: data_parallel(sgd),
        "uneven": lambda: refused(NotImplementedError, "shares of several sizes", shard(mesh), width=9),
        "kept": lambda: close(shard(mesh, reshard_after_forward=False), sgd, max_grad_norm=0.1),
        "hybrid": lambda: close(shard(both), sgd),
        "mixed_precision": lambda: mixed_precision(mesh),
        "hybrid_mixed_precision": lambda: mixed_precision(both),
        "adafactor": lambda: close(shard(mesh), adafactor),
        "adafactor_tp": lambda: close(tensor_parallel, adafactor, split=False),
        "muon": lambda: close(shard(mesh), muon, within=2e-3),  # which orthogonalises in bfloat16
        "two_dimensions": lambda: two_dimensions(size),
    }


def main():
    dist.init_process_group()
    table = cases(dist.get_world_size())
    for name in sys.argv[1:] or table:
        print(name, flush=True)
        table[name]()
    print(f"RESULT {tpu_dynamo.stats().xla_compiles}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
