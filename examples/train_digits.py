"""Train a classifier of real handwritten digits on the device, and the same in eager on the CPU beside it.

    python examples/train_digits.py [--epochs 15] [--figure digits.png]

Each step is one executable: tpu_dynamo.train_step. The data are scikit-learn's 1,797 digits, as in `digits.py`.
"""

from __future__ import annotations

import argparse
import time

import matplotlib.pyplot as plt
import torch
from digits import DigitNet, data
from torch import Tensor, nn
from torch.nn import functional as F

import tpu_dynamo


def batches(count: int, epochs: int) -> list[Tensor]:
    """The indices of each batch, the same for every run; the last, smaller batch of an epoch is left out."""
    generator = torch.Generator().manual_seed(0)
    return [b for _ in range(epochs) for b in torch.randperm(count, generator=generator).split(64) if len(b) == 64]


def prepared(device: str, steps: int) -> tuple[nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Make a model, its optimizer and its schedule, alike for every run."""
    torch.manual_seed(0)
    model = DigitNet().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    return model, optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)


def train_eager(images: Tensor, labels: Tensor, order: list[Tensor]) -> tuple[nn.Module, list[float]]:
    """The ordinary loop on the CPU."""
    model, optimizer, schedule = prepared("cpu", len(order))
    losses = []
    for batch in order:
        loss = F.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return model, losses


def train_whole_steps(images: Tensor, labels: Tensor, order: list[Tensor]) -> tuple[nn.Module, list[float]]:
    """Train on the device, one execution a step; the data stay there, and losses are read at the end."""
    model, optimizer, schedule = prepared("tpu", len(order))
    step = tpu_dynamo.train_step(model, optimizer, F.cross_entropy)
    losses = []
    for batch in order:
        losses.append(step(images[batch].to("tpu"), labels[batch].to("tpu")))
        schedule.step()
    return model, torch.stack(losses).tolist()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of images whose label the model names."""
    device = next(model.parameters()).device
    return (model.eval()(images.to(device)).argmax(1).cpu() == labels).float().mean().item()


def main() -> None:
    """Train both, compare, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--figure", default="digits.png")
    given = parser.parse_args()
    train_images, test_images, train_labels, test_labels = data()
    order = batches(len(train_images), given.epochs)
    curves = {}
    for name, train in (("eager", train_eager), ("whole steps", train_whole_steps)):
        started = time.perf_counter()
        model, curves[name] = train(train_images, train_labels, order)
        seconds = time.perf_counter() - started
        print(
            f"{name:12} {len(order)} steps in {seconds:.1f} s, accuracy {accuracy(model, test_images, test_labels):.2%}"
        )
    apart = max(abs(a - b) for a, b in zip(*curves.values(), strict=True))
    print(f"largest difference of losses: {apart:.1e}")
    for name, losses in curves.items():
        plt.plot(losses, label=name, linestyle="-" if name == "eager" else "--")
    plt.xlabel("step")
    plt.ylabel("loss")
    plt.yscale("log")
    plt.legend()
    plt.savefig(given.figure, dpi=120)
    print(f"loss curves: {given.figure}")


if __name__ == "__main__":
    main()
