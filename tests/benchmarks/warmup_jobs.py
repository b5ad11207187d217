"""Seconds to warm 16 buckets with one worker and with two, each into an empty cache.

    python -m tests.benchmarks.warmup_jobs [--buckets 16] [--repeats 2]

Three transformer layers, forward and backward, on the CPU client. Beside the seconds stand those of the CPU that the
processes used: where one worker keeps more than one core busy, as XLA's own threads do, two can be less than twice as fast.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

_MANIFEST = """
schema = 1

[model.layers]
factory = "tests.benchmarks.warmup_jobs:layers"
modes = ["train"]
options = {{ buckets = {buckets} }}
dims = {{ batch = 4, length = {{ min = 2, max = {largest} }} }}
inputs = [{{ shape = ["batch", "length", 64] }}]
"""


def layers() -> torch.nn.Module:
    """Return three transformer layers of width 64."""
    layer = torch.nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
    return torch.nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)


def warm(manifest: Path, workers: int) -> tuple[float, float]:
    """Warm an empty cache; return the seconds, and those of the CPU."""
    with tempfile.TemporaryDirectory() as cache:
        command = [
            sys.executable,
            "-m",
            "tpu_dynamo.cli",
            "warmup",
            str(manifest),
            "-j",
            str(workers),
            "--cache-dir",
            cache,
        ]
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the seconds of each run, and how much faster two workers are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--buckets", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    sizes = [16 * (i + 1) for i in range(given.buckets)]
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "models.toml"
        manifest.write_text(_MANIFEST.format(buckets=sizes, largest=sizes[-1]))
        for _ in range(given.repeats):
            one, two = warm(manifest, 1), warm(manifest, 2)
            for workers, (seconds, busy) in ((1, one), (2, two)):
                print(f"  -j {workers}: {seconds:6.1f} s, {busy:6.1f} s of CPUs, {busy / seconds:.2f} busy", flush=True)
            print(f"  two workers are {one[0] / two[0]:.2f} times as fast")


if __name__ == "__main__":
    main()
