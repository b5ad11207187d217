"""Classify real handwritten digits: a small convolutional network, trained in eager, served through backend="tpu".

    python examples/digits.py

The data are the 1,797 8x8 images of scikit-learn's `load_digits` (UCI optical digits), which the package carries.
"""

from __future__ import annotations

import time

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

import tpu_dynamo


class DigitNet(nn.Module):
    """A small convolutional network for 8x8 images."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(512, 64), nn.GELU(), nn.Linear(64, 10))

    def forward(self, images: Tensor) -> Tensor:
        """[batch, 1, 8, 8] images to [batch, 10] logits."""
        return self.head(self.features(images))


def data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images, test images, training labels, test labels; pixels between 0 and 1."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(digits.target)
    return tuple(train_test_split(images, labels, test_size=0.25, random_state=0, stratify=labels))


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int = 15) -> None:
    """A few seconds of AdamW in eager PyTorch, with a line for each epoch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for epoch in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            loss = F.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1} of {epochs}: loss {loss.item():.4f}", flush=True)


@torch.no_grad()
def classify(model: nn.Module, images: Tensor) -> tuple[Tensor, float, float]:
    """Predicted labels, the seconds of the first call and the least seconds of five more."""
    times = []
    for _ in range(6):
        started = time.perf_counter()
        logits = model(images)
        times.append(time.perf_counter() - started)
    return logits.argmax(1), times[0], min(times[1:])


def main() -> None:
    """Train, classify twice, compare."""
    torch.manual_seed(0)
    train_images, test_images, train_labels, test_labels = data()
    model = DigitNet()
    started = time.perf_counter()
    train(model, train_images, train_labels)
    print(f"trained in eager on {len(train_images)} digits in {time.perf_counter() - started:.1f} s")
    model.eval()
    compiled = torch.compile(model, backend="tpu")
    predictions = {}
    for name, function in (("eager", model), ("compiled", compiled)):
        predicted, first, best = classify(function, test_images)
        predictions[name] = predicted
        accuracy = (predicted == test_labels).float().mean().item()
        print(
            f"{name:9} accuracy {accuracy:.2%} on {len(test_images)} digits, {best * 1e3:7.2f} ms (first {first:.2f} s)"
        )
    same = int((predictions["eager"] == predictions["compiled"]).sum())
    print(f"equal predictions: {same} of {len(test_images)}")
    stats = tpu_dynamo.stats()
    print(f"graphs {stats.graphs}, XLA compiles {stats.xla_compiles}, executions {stats.executions}")


if __name__ == "__main__":
    main()
