"""A training step of GPT-2 (124M) on the CPU client with a profile and without, and a call with nobody watching.

python -m tests.benchmarks.profiling [--layers 12] [--batch 1] [--length 64] [--rounds 6]
"""

from __future__ import annotations

import argparse
import statistics
import time
import timeit

import torch

import tpu_dynamo
from tpu_dynamo_runtime import Watching

from .gpt2 import GPT2, loss_of


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in {"layers": 12, "batch": 1, "length": 64, "rounds": 6, "steps": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.manual_seed(0)
    model = GPT2(given.layers)
    tokens = torch.randint(0, 50257, (given.batch, given.length + 1))
    x, y = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    compiled = torch.compile(model, backend="tpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        loss_of(compiled(x), y).backward()
        optimizer.step()

    def steps() -> tuple[float, float]:
        """Return the seconds of a step, and those of all threads' computing, which other processes disturb less."""
        started, computed = time.perf_counter(), time.process_time()
        for _ in range(given.steps):
            step()
        return (time.perf_counter() - started) / given.steps, (time.process_time() - computed) / given.steps

    for _ in range(3):
        step()
    plain, profiled, made = [], [], []
    for _ in range(given.rounds):
        plain.append(steps())
        with tpu_dynamo.profile() as run:
            profiled.append(steps())
        started = time.perf_counter()
        run.profile  # noqa: B018
        made.append(time.perf_counter() - started)
    print(f"GPT-2 of {given.layers} layers, {given.batch} x {given.length} tokens")
    for name, which in {"a step": 0, "a step, of the processor": 1}.items():
        without, with_profile = ([each[which] for each in found] for found in (plain, profiled))
        print(
            f"{name}: {statistics.median(without):.3f} s, with a profile {statistics.median(with_profile):.3f} s; "
            f"the least of {given.rounds} rounds {min(without):.3f} s and {min(with_profile):.3f} s, "
            f"{100 * (min(with_profile) / min(without) - 1):+.1f}%"
        )
    print(f"the profile is made in {min(made):.2f} s")

    def nothing() -> None:
        pass

    def ask() -> None:
        if Watching.now is not None:
            raise AssertionError

    least = {way: min(timeit.repeat(way, repeat=50, number=20_000)) / 20_000 for way in (ask, nothing)}
    print(f"asking who watches: {(least[ask] - least[nothing]) * 1e9:.0f} ns")


if __name__ == "__main__":
    main()
