"""The price of eager operators on torch.device("tpu"), and that long runs keep no memory.

    python -m tests.benchmarks.device

On XLA's CPU client, beside the same operators of eager PyTorch on the CPU.
"""

from __future__ import annotations

import gc
import resource

import torch

import tpu_dynamo  # noqa: F401, which registers the device

from .side_by_side import seconds, show


def resident_mib() -> float:
    """The resident memory of this process, in MiB."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def steps(count: int) -> None:
    """Eager training steps of a small model on the device."""
    model = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.ReLU(), torch.nn.Linear(64, 4)).to("tpu")
    optimizer = torch.optim.AdamW(model.parameters())
    x = torch.randn(16, 32).to("tpu")
    for _ in range(count):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


def temporary_models(count: int) -> None:
    """Models that are made, used and dropped."""
    for _ in range(count):
        model = torch.nn.Linear(256, 256).to("tpu")
        model(torch.ones(4, 256).to("tpu")).sum().backward()


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    x, y = torch.randn(8, 8), torch.randn(8, 8)
    a, b = x.to("tpu"), y.to("tpu")
    rows = {
        "add": seconds({"tpu": lambda: a + b, "cpu": lambda: x + y}),
        "add a number": seconds({"tpu": lambda: a + 1.5, "cpu": lambda: x + 1.5}),
        "add in place": seconds({"tpu": lambda: a.add_(b), "cpu": lambda: x.add_(y)}),
        "matmul": seconds({"tpu": lambda: a @ b, "cpu": lambda: x @ y}),
        "a view": seconds({"tpu": lambda: a[1:], "cpu": lambda: x[1:]}),
    }
    show("eager operators", rows, "us", None)
    for name, run, warm, count in (
        ("eager steps", steps, 100, 1000),
        ("temporary models", temporary_models, 20, 200),
    ):
        run(warm)
        gc.collect()
        before = resident_mib()
        run(count)
        gc.collect()
        print(f"{count} {name}: resident memory {before:.0f} -> {resident_mib():.0f} MiB")


if __name__ == "__main__":
    main()
