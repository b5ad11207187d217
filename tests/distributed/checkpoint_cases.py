"""Checkpoints of sharded models, saved and loaded by different numbers of ranks; run by each rank.

Arguments: save or load, and a folder.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import tpu_dynamo

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


class Model(nn.Module):
    """Rows that divide by no number of ranks, so that shards are uneven."""

    def __init__(self):
        super().__init__()
        self.up = nn.Linear(6, 7)
        self.down = nn.Linear(7, 6)
        self.register_buffer("scale", torch.tensor([2.0]))  # torch consolidates no numbers

    def forward(self, x):
        return self.down(torch.relu(self.up(x))) * self.scale


def made(seed):
    """Return a model sharded over all ranks, or whole on one chip, and its optimizer after some steps."""
    torch.manual_seed(seed)
    model = Model().to("tpu")
    if dist.is_initialized():
        mesh = init_device_mesh("tpu", (dist.get_world_size(),))
        for layer in (model.up, model.down):
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(2):
        model(torch.ones(2, 6, device="tpu")).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def leaves(tree, prefix=""):
    """Yield the names and values of a state, on the CPU and whole."""
    for key, value in sorted(tree.items()) if isinstance(tree, dict) else enumerate(tree):
        if isinstance(value, (dict, list, tuple)):
            yield from leaves(value, f"{prefix}{key}.")
        elif isinstance(value, torch.Tensor):
            yield f"{prefix}{key}", value.full_tensor().cpu() if hasattr(value, "full_tensor") else value.cpu()
        else:
            yield f"{prefix}{key}", value


def equal(ours, theirs, what):
    ours, theirs = dict(leaves(ours)), dict(leaves(theirs))
    assert ours.keys() == theirs.keys(), (what, ours.keys() ^ theirs.keys())
    for name, value in ours.items():
        same = torch.equal(value, theirs[name]) if isinstance(value, torch.Tensor) else value == theirs[name]
        assert same, f"{what}: {name} is {value} instead of {theirs[name]}"


def state(model, optimizer, options=None):
    names = "model", "optimizer"
    return dict(zip(names, get_state_dict(model, optimizer, options=options), strict=True))


def save(folder):
    model, optimizer = made(seed=0)
    shards = state(model, optimizer)
    dcp.save(shards, checkpoint_id=folder / "shards")
    pending = dcp.async_save(shards, checkpoint_id=folder / "later")
    getattr(pending, "upload_completion", pending).result()
    writer = HuggingFaceStorageWriter(folder / "safetensors", save_distributed=True, enable_consolidation=True)
    dcp.save(shards["model"], storage_writer=writer)
    whole = state(model, optimizer, WHOLE)
    if not dist.is_initialized() or dist.get_rank() == 0:
        assert all(value.device.type == "cpu" for _, value in leaves(whole) if isinstance(value, torch.Tensor))
        torch.save(whole, folder / "whole.pt")
        assert len(dict(leaves(whole))) > 10
    else:
        assert not list(leaves(whole)), "only rank 0 has the whole state"


def load(folder):
    expected = torch.load(folder / "whole.pt")
    for kind in ("shards", "later"):
        model, optimizer = made(seed=1)
        shards = state(model, optimizer)
        dcp.load(shards, checkpoint_id=folder / kind)
        set_state_dict(model, optimizer, model_state_dict=shards["model"], optim_state_dict=shards["optimizer"])
        equal(state(model, optimizer), expected, kind)
    for part in ("safetensors", "safetensors/sharded"):
        weights = {name: torch.zeros_like(value) for name, value in made(seed=1)[0].state_dict().items()}
        if (folder / part).exists():
            dcp.load(weights, storage_reader=HuggingFaceStorageReader(str(folder / part)))
            equal(weights, expected["model"], part)
    model, optimizer = made(seed=1)
    sharded = dist.is_initialized()
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=sharded)
    given = copy.deepcopy(expected) if not sharded or dist.get_rank() == 0 else {"model": {}, "optimizer": {}}
    # One by one: by both at once, torch broadcasts no weights to ranks that give none, and waits for ever.
    set_model_state_dict(model, given["model"], options=options)
    set_optimizer_state_dict(model, optimizer, given["optimizer"], options=options)
    equal(state(model, optimizer), expected, "whole")
    # It goes on as the one that was saved does.
    model(torch.ones(2, 6, device="tpu")).square().sum().backward()
    optimizer.step()
    assert tpu_dynamo.stats().executions > 0
    print("loaded", float(sum(p.detach().sum() for p in map(whole_tensor, model.parameters()))))


def whole_tensor(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def main():
    verb, folder = sys.argv[1], Path(sys.argv[2])
    if verb != "load_on_one_chip":
        dist.init_process_group()
    {"save": save, "load": load, "load_on_one_chip": load}[verb](folder)
    if dist.is_initialized():
        dist.destroy_process_group()


main()
