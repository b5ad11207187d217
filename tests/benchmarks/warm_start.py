"""Seconds that a second process saves: the time to the first result with an empty cache and with a full one.

    python -m tests.benchmarks.warm_start [--json FILE] [--match REGEX] [--repeats N] [--precompile]

Each start is a process of its own; cold and warm ones take turns, and of each stage the least counts. The models have
random weights in the published sizes. The first call comes after the imports and the model; `--backend inductor`
starts Inductor with its caches in the same way.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

MODELS = ("BERT-base", "ResNet-50", "BERT-base training", "MLP")


def main() -> None:
    """Start processes and print what they took; with `--start` be one of them."""
    parser = argparse.ArgumentParser(description="Time to the first result, cold and warm.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--match", default="BERT-base|ResNet-50")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--backend", default="tpu")
    parser.add_argument("--options", default="{}", help="options of the backend, as JSON")
    parser.add_argument("--precompile", action="store_true", help="tpu_dynamo.precompile instead of torch.compile")
    parser.add_argument("--start", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.start:
        print(json.dumps(start(given.start, given.backend, json.loads(given.options), given.precompile)))
        return
    found = {}
    for name in MODELS:
        if re.fullmatch(given.match, name):
            extra = ["--backend", given.backend, "--options", given.options, *["--precompile"] * given.precompile]
            found[name] = measure(name, extra, given.repeats)
            show(name, found[name])
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


def measure(name: str, arguments: list[str], repeats: int) -> dict[str, dict[str, float]]:
    """The least seconds of each stage, cold and warm."""
    runs: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            for kind in runs:
                runs[kind].append(started(name, arguments, Path(folder)))
    return {kind: {stage: min(run[stage] for run in each) for stage in each[0]} for kind, each in runs.items()}


def started(name: str, arguments: list[str], folder: Path) -> dict[str, float]:
    """The seconds of each stage of one process whose caches are in a folder."""
    caches = {"TPU_DYNAMO_CACHE_DIR": folder / "tpu_dynamo", "TORCHINDUCTOR_CACHE_DIR": folder / "inductor"}
    environment = {**os.environ, **{variable: str(path) for variable, path in caches.items()}}
    command = [sys.executable, "-m", __spec__.name, "--start", name, *arguments]
    before = time.perf_counter()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    whole = time.perf_counter() - before
    return {**json.loads(done.stdout.splitlines()[-1]), "whole process": whole}


def start(name: str, backend: str, options: dict[str, Any], precompile: bool) -> dict[str, float]:
    """In a fresh process: import, make the model, compile and call it. Gives the seconds of each stage."""
    clock = time.perf_counter
    begun = clock()
    import torch

    imported = {"import torch": clock() - begun}
    if name != "MLP":
        begun = clock()
        # Names are found lazily: this loads what the models need.
        from transformers import BertConfig, BertModel, ResNetConfig, ResNetModel  # noqa: F401

        imported["import transformers"] = clock() - begun
    begun = clock()
    if backend == "tpu":
        import tpu_dynamo
    imported["import tpu_dynamo"] = clock() - begun
    begun = clock()
    torch.manual_seed(0)
    call = prepared(name)
    made = clock() - begun
    stages = Stages()
    begun, used = clock(), time.process_time()
    if precompile:
        import tpu_dynamo

        call.compile(lambda model: tpu_dynamo.precompile(model, options=options))
    else:
        call.compile(lambda model: torch.compile(model, backend=backend, options=options or None))
    call()
    first, used = clock() - begun, time.process_time() - used
    begun = clock()
    call()
    second = clock() - begun
    compiled = stages.seconds(first, second)
    imports = sum(imported.values())
    return {
        "from start to first result": imports + made + first,
        **imported,
        "make the model": made,
        "first call": first,
        **{f"  {stage}": seconds for stage, seconds in compiled.items()},
        "second call": second,
        "first call, CPU seconds": used,
    }


class Call:
    """One call of a model: inference, or a forward and a backward."""

    def __init__(self, model: Any, x: Any, trains: bool):
        self._model, self._x, self._trains = model, x, trains

    def compile(self, compiled: Callable[[Any], Any]) -> None:
        """Call what `compiled` makes of the model from now on."""
        self._model = compiled(self._model)

    def __call__(self) -> object:
        import torch

        with torch.set_grad_enabled(self._trains):
            out = self._model(self._x)
            if self._trains:
                out.pooler_output.sum().backward()
        return out


def prepared(name: str) -> Call:
    """One call of a model that is not compiled yet."""
    import torch

    if name == "MLP":
        layers = [torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)]
        return Call(torch.nn.Sequential(*layers), torch.randn(8, 64), False)
    import transformers as t

    if name == "ResNet-50":
        return Call(t.ResNetModel(t.ResNetConfig()).eval(), torch.randn(1, 3, 224, 224), False)
    return Call(t.BertModel(t.BertConfig()).eval(), torch.randint(0, 30522, (1, 128)), name.endswith("training"))


class Stages:
    """Return the stages of a first call with their seconds, from the times that Dynamo keeps and those that the backend logs."""

    def __init__(self) -> None:
        self.programs = self.executables = 0.0
        log, handler = logging.getLogger("tpu_dynamo"), logging.Handler()
        handler.emit = self._note
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False

    def _note(self, record: logging.LogRecord) -> None:
        if record.msg.startswith("graph %s: program in") and isinstance(record.args, tuple):
            self.programs += float(record.args[1])
            self.executables += float(record.args[3])

    def seconds(self, first: float, second: float) -> dict[str, float]:
        """The stages of a first call of so many seconds, where a later one takes `second`."""
        from torch._dynamo.utils import compilation_time_metrics

        def spent(name: str) -> float:
            return sum(compilation_time_metrics.get(name, ()))

        frames, backend = spent("_compile.compile_inner"), spent("OutputGraph.call_user_compiler")
        ours = self.programs + self.executables
        return {
            "Dynamo": frames - backend,
            "AOTAutograd and the rest of the backend": backend - ours,
            "program: signature, lowering or reading": self.programs,
            "executable: XLA or reading": self.executables,
            "guards, imports, parameters, first run": first - frames - second,
            "run": second,
        }


def show(name: str, found: dict[str, dict[str, float]]) -> None:
    """Print one model's table."""
    table = Table(title=f"{name}: seconds")
    for column in ("", "cold", "warm", "warm / cold"):
        table.add_column(column, justify="right" if column else "left")
    cold, warm = found["cold"], found["warm"]
    for stage in cold:
        ratio = f"{warm[stage] / cold[stage]:.2f}" if cold[stage] > 0.05 else ""
        table.add_row(stage, f"{cold[stage]:.2f}", f"{warm[stage]:.2f}", ratio)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
