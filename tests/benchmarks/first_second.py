"""The stages of the time to a first result: a process with an empty cache, and one that finds everything.

    python -m tests.benchmarks.first_second [--repeats N]

Eight linear layers with layer norms and GELU, for inference. Of each stage the least of the repeats counts, and shares
are of the whole from the start of Python to the result.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

START = """
import time
begun = time.perf_counter()
import torch
found = {"import torch": time.perf_counter() - begun}
begun = time.perf_counter()
import tpu_dynamo
found["import tpu_dynamo"] = time.perf_counter() - begun
layers = [torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.LayerNorm(64), torch.nn.GELU()) for _ in range(8)]
model = torch.compile(torch.nn.Sequential(*layers).eval(), backend="tpu")
with torch.no_grad():
    model(torch.ones(8, 64))
import json
print(json.dumps(found | tpu_dynamo.stats().seconds))
"""


def main() -> None:
    """Start processes and print a line for each stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    runs: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            for found in runs.values():
                found.append(started(Path(folder)))
    for kind, found in runs.items():
        least = {stage: min(each.get(stage, 0.0) for each in found) for stage in found[0]}
        whole = sum(least.values())
        print(f"{kind}: {whole:.2f} s")
        for stage, seconds in least.items():
            print(f"  {stage}: {seconds:.2f} s, {seconds / whole:.0%}")


def started(folder: Path) -> dict[str, float]:
    """Return the seconds by stage of one process whose caches are in a folder."""
    caches = {"TPU_DYNAMO_CACHE_DIR": folder / "tpu_dynamo", "TORCHINDUCTOR_CACHE_DIR": folder / "inductor"}
    environment = {**os.environ, **{variable: str(path) for variable, path in caches.items()}}
    # Python code of -c has no file, and Dynamo reads source.
    script = folder / "start.py"
    script.write_text(START, encoding="utf-8")
    command = [sys.executable, "-W", "ignore", str(script)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return json.loads(done.stdout.decode().splitlines()[-1])


if __name__ == "__main__":
    main()
