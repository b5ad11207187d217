"""A day of small calls in an hour: what a long-lived process does, and what it keeps of it.

    python -m tests.benchmarks.endurance [--minutes 60] [--json FILE]

Rounds of everything that a server or a training job does, over and over: calls, steps, other lengths, refusals,
profiles; with `--only`, models that come and go too. Prints resident memory, file handles, threads and bytes on the
device through time; at the end, by a straight line through the second half, what an hour adds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import tpu_dynamo

from .resident import resident_mib


@dataclass(frozen=True)
class Sample:
    """The holdings of a process at a time. seconds: since the beginning. resident, on_device: MiB."""

    seconds: float
    rounds: int
    resident: float
    on_device: float
    handles: int
    threads: int


def block(width: int = 64) -> torch.nn.Module:
    """A small model."""
    return torch.nn.Sequential(torch.nn.Linear(width, 4 * width), torch.nn.GELU(), torch.nn.Linear(4 * width, width))


def calls(device: str) -> Callable[[], None]:
    """Inference, a batch at a time."""
    compiled = torch.compile(block().to(device), backend="tpu")

    def run() -> None:
        with torch.no_grad():
            for _ in range(200):
                compiled(torch.randn(32, 64, device=device)).cpu()

    return run


def lengths() -> Callable[[], None]:
    """Lengths of any size up to 128, in buckets."""
    compiled = torch.compile(block(), backend="tpu", dynamic=True, options={"buckets": "pow2"})
    every = itertools.cycle(range(2, 129, 7))

    def run() -> None:
        with torch.no_grad():
            for _ in range(50):
                compiled(torch.randn(next(every), 64))

    return run


def ordinary_steps() -> Callable[[], None]:
    """The usual loop: forward and backward compiled, the optimizer eager on the device."""
    model = block().to("tpu")
    compiled, optimizer = torch.compile(model, backend="tpu"), torch.optim.AdamW(model.parameters())

    def run() -> None:
        for _ in range(20):
            optimizer.zero_grad()
            compiled(torch.randn(32, 64, device="tpu")).square().mean().backward()
            optimizer.step()

    return run


def whole_steps() -> Callable[[], None]:
    """Steps of `train_step`."""
    model = block().to("tpu")
    step = tpu_dynamo.train_step(model, torch.optim.AdamW(model.parameters()), lambda out: out.square().mean())

    def run() -> None:
        for _ in range(50):
            step(torch.randn(32, 64, device="tpu"))

    return run


def eager() -> Callable[[], None]:
    """Operators one by one, writes in place and copies both ways."""

    def run() -> None:
        for size in range(1, 21):
            x = torch.randn(size, 64).to("tpu")
            x.mul_(2).add_(1)
            (x @ x.T).softmax(-1).sum().item()

    return run


def models() -> Callable[[], None]:
    """A model that is made, compiled, trained one step and dropped."""

    def run() -> None:
        model = block(32)
        torch.compile(model, backend="tpu")(torch.ones(4, 32)).sum().backward()
        torch.compiler.reset()

    return run


def refusals() -> Callable[[], None]:
    """Operators that are refused."""
    here, there = torch.ones(4, device="tpu"), torch.ones(4, 4)

    def run() -> None:
        for _ in range(20):
            try:
                torch.add(here, there)
            except RuntimeError:
                continue
            raise AssertionError("tensors of two devices were added")

    return run


def profiles() -> Callable[[], None]:
    """A short profile, and counts."""
    compiled = torch.compile(block(), backend="tpu")

    def run() -> None:
        with torch.no_grad(), tpu_dynamo.profile() as profiled:
            for _ in range(5):
                compiled(torch.randn(32, 64))
        assert profiled.profile.graphs
        tpu_dynamo.stats()
        tpu_dynamo.memory()

    return run


KINDS = {
    "calls": lambda: calls("cpu"),
    "calls on the device": lambda: calls("tpu"),
    "lengths": lengths,
    "ordinary steps": ordinary_steps,
    "whole steps": whole_steps,
    "eager operators": eager,
    "models that are dropped": models,
    "refusals": refusals,
    "profiles": profiles,
}

# After a reset all is compiled anew, of which PyTorch keeps some objects each time.
_RESETTING = ("models that are dropped",)


def sample(started: float, rounds: int) -> Sample:
    """Look at this process."""
    resident = resident_mib()  # which collects garbage first
    return Sample(
        time.perf_counter() - started,
        rounds,
        resident,
        tpu_dynamo.memory().total / 2**20,
        len(os.listdir("/proc/self/fd")),
        len(list(Path("/proc/self/task").iterdir())),
    )


def samples(minutes: float, names: list[str], every: int = 20) -> Iterator[Sample]:
    """Run rounds of these kinds until the time is over, and yield what is held, so many times in all."""
    runs = [KINDS[name]() for name in names]
    for run in runs:
        run()
    started = time.perf_counter()
    due = 0.0
    for rounds in itertools.count():
        passed = time.perf_counter() - started
        if passed >= due:
            yield sample(started, rounds)
            due += 60 * minutes / every
        if passed >= 60 * minutes:
            return
        for run in runs:
            run()


def by_the_hour(found: list[Sample], field: str) -> float:
    """Return what an hour adds to a field, by a straight line through the second half."""
    half = found[len(found) // 2 :]
    line = statistics.linear_regression([each.seconds for each in half], [getattr(each, field) for each in half])
    return line.slope * 3600


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=[name for name in KINDS if name not in _RESETTING])
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as empty:
        os.environ.update(TPU_DYNAMO_CACHE_DIR=empty, TORCHINDUCTOR_CACHE_DIR=empty)
        found = list(samples(given.minutes, given.only))
    fields = {"resident": "MiB resident", "on_device": "MiB on the device", "handles": "handles", "threads": "threads"}
    table = Table("minutes", "rounds", *fields.values())
    for each in found:
        row = [each.seconds / 60, each.rounds, *(getattr(each, field) for field in fields)]
        table.add_row(*(f"{value:.1f}" if isinstance(value, float) else str(value) for value in row))
    table.add_section()
    table.add_row("an hour adds", "", *(f"{by_the_hour(found, field):+.1f}" for field in fields))
    Console(width=100).print(table)
    if given.json:
        given.json.write_text(json.dumps(list(map(asdict, found)), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
