"""The most memory that a process had resident, for the models and ways of steady_state, each in a process of its own.

    python -m tests.benchmarks.high_water [--match REGEX]

Counted from when the model is built: compiling, and a few calls.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from .jax_models import MODELS
from .resident import resident_mib
from .steady_state import WAYS, torch_models, way_of


def grown(model: str, way: str) -> float:
    """MiB from a model's being built to the highest mark of the process, which is this one."""
    module, x, choose = torch_models()[model]
    before = resident_mib()
    Path("/proc/self/clear_refs").write_text("5")  # the mark begins anew
    with torch.no_grad():
        call = way_of(way, MODELS[model], module.eval(), x, choose)
        for _ in range(3):
            call()
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024 - before


def main() -> None:
    """Measure and print; with the two words of one cell, that one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--match", default=".*")
    parser.add_argument("--cell", nargs=2)
    given = parser.parse_args()
    if given.cell:
        print(grown(*given.cell))
        return
    table = Table("MiB", *WAYS)
    for model in filter(re.compile(given.match).fullmatch, MODELS):
        row = []
        for way in WAYS:
            with tempfile.TemporaryDirectory() as empty:  # a cache that knows nothing
                command = [sys.executable, "-m", "tests.benchmarks.high_water", "--cell", model, way]
                environment = {"TPU_DYNAMO_CACHE_DIR": empty, "TORCHINDUCTOR_CACHE_DIR": empty}
                row.append(_output(command, environment))
        table.add_row(model, *row)
    Console(width=120).print(table)


def _output(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    return f"{float(done.stdout.split()[-1]):,.0f}"


if __name__ == "__main__":
    main()
