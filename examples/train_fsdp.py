"""Train a classifier of real handwritten digits with its parameters sharded over chips: PyTorch's fully_shard.

    torchrun --nproc-per-node 2 examples/train_fsdp.py [--epochs 2] [--checkpoint FOLDER]

One process a chip; without TPUs each process has XLA's CPU client. Every rank prints the loss of each epoch, which is
that of one process, `python examples/train_fsdp.py`: a batch is shared out to the ranks.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F

import tpu_dynamo

BATCH = 64


class Block(nn.Module):
    """A layer of the network, sharded and gathered by itself."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return x and what the layer adds to it."""
        return x + self.down(F.gelu(self.up(self.norm(x))))


def network() -> nn.Sequential:
    """Make the network, alike on every rank."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 96), Block(96), Block(96), nn.Linear(96, 10))


def shares(images: Tensor, labels: Tensor, rank: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield this rank's share of each batch of an epoch; the last, smaller batch is left out."""
    for batch in torch.randperm(len(images)).split(BATCH):
        if len(batch) == BATCH:
            own = batch.chunk(size)[rank]
            yield images[own].to("tpu"), labels[own].to("tpu")


def main() -> None:
    """Train, print the mean loss of each epoch, and save a checkpoint if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--checkpoint")
    options = parser.parse_args()

    together = "RANK" in os.environ  # under torchrun
    if together:
        dist.init_process_group()
    rank, size = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)

    model = network().to("tpu")
    if together:
        mesh = init_device_mesh("tpu", (size,))
        for block in model:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for block in model:
        block.compile(backend="tpu")

    digits = load_digits()
    images, labels = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    torch.manual_seed(1)
    for epoch in range(options.epochs):
        losses = []
        for x, y in shares(images, labels, rank, size):
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
        mean = torch.stack(losses).mean()
        if together:
            dist.all_reduce(mean, dist.ReduceOp.AVG)
        print(f"epoch {epoch}: loss {mean.item():.6f}", flush=True)
    print(f"rank {rank} compiled {tpu_dynamo.stats().xla_compiles} programs", flush=True)

    if options.checkpoint:
        weights, state = get_state_dict(model, optimizer)
        dcp.save({"model": weights, "optimizer": state}, checkpoint_id=options.checkpoint)
    if together:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
