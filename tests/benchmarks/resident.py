"""Memory that stays after long runs: 10,000 calls, 200 recompilations, 200 models that come and go.

    python -m tests.benchmarks.resident

Prints the resident memory after a warm-up and at the end of each loop; at last that of jax.jit with as many sizes.
"""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Callable

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import torch

import tpu_dynamo  # noqa: F401, which registers the device


def resident_mib() -> float:
    """The resident memory of this process, in MiB."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def calls(device: str) -> Callable[[int], None]:
    """Calls of one compiled model, whose inputs and outputs come and go."""
    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 64)).to(device)
    compiled = torch.compile(model, backend="tpu")

    def run(count: int) -> None:
        with torch.no_grad():
            for _ in range(count):
                compiled(torch.randn(128, 64).to(device))

    return run


def sizes(count: int) -> None:
    """One model at new sizes: each is another executable, of which the pool keeps so many."""
    options = {"max_executables": 16}
    compiled = torch.compile(lambda x: torch.softmax(x @ x.T, 0), backend="tpu", dynamic=True, options=options)
    for i in range(count):
        compiled(torch.ones(i + 2, 8))


def recompilations(count: int) -> None:
    """Functions that are compiled anew after a reset."""
    for i in range(count):
        torch._dynamo.reset()
        torch.compile(lambda x, n=i: torch.relu(x + n), backend="tpu")(torch.ones(8, 8))


def models(count: int) -> None:
    """Models that are made, compiled, trained one step and dropped."""
    for _ in range(count):
        torch._dynamo.reset()
        model = torch.nn.Linear(256, 256)
        torch.compile(model, backend="tpu")(torch.ones(4, 256)).sum().backward()


def sizes_in_jax(count: int) -> None:
    """The function of `sizes` in JAX, which keeps every executable."""
    jitted = jax.jit(lambda x: jax.nn.softmax(x @ x.T, 0))
    for i in range(count):
        jitted(torch.ones(i + 2, 8).numpy()).block_until_ready()


def main() -> None:
    """Run the loops."""
    torch.set_num_threads(1)
    for name, run, warm, count in (
        ("calls, CPU tensors", calls("cpu"), 500, 10_000),
        ("calls, the device's tensors", calls("tpu"), 500, 10_000),
        ("sizes of one function", sizes, 50, 200),
        ("recompilations after a reset", recompilations, 50, 200),
        ("models that are dropped", models, 50, 200),
        ("sizes of one function, jax.jit", sizes_in_jax, 50, 200),
    ):
        run(warm)
        before = resident_mib()
        run(count)
        print(f"{count} {name}: resident memory {before:.0f} -> {resident_mib():.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
