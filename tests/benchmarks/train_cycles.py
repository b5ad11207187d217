"""Libtpu's estimates of whole training steps, beside the same steps written by hand in JAX: cycles, memory.

    python -m tests.benchmarks.train_cycles [--match REGEX] [--target v5e:2x2] [--layers 2] [--json FILE]

bfloat16. Needs libtpu; no chip, and takes minutes. A step is forward, backward and update, GPT-2 and BERT with AdamW,
ResNet-50 with SGD and momentum; JAX in two phrasings, of which the better one counts. Both sides are compiled with
`xla_tpu_enable_flash_attention` off, since libtpu's own attention has no cycles.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import torch
from rich.console import Console
from rich.table import Table

from tpu_dynamo._torch_compat import fake_copies
from tpu_dynamo.artifacts import Artifacts
from tpu_dynamo.graph.lowering import lower_graph
from tpu_dynamo.graph.prepare import BoxedCallable, PreparedGraph
from tpu_dynamo.training.step import TrainStep
from tpu_dynamo_runtime import open_compiler

from .tpu_code import Count, counted
from .tpu_models import transformers
from .tpu_models.training import STEPS, Step, loss_of, lowered


def ours(step: Step, fast_memory: int | None) -> bytes:
    """Lower a step of the PyTorch model, on tensors without values, for a target with so many bytes of fast memory."""
    found: list[PreparedGraph] = []

    def compile_step(graph: PreparedGraph) -> BoxedCallable:
        found.append(graph)
        values: Any = graph.module.graph.output_node().args[0]
        return lambda _: [torch.empty_like(value.meta["val"]) for value in values]

    model, batch = step.build()
    with fake_copies(model, batch, "tpu") as given:
        TrainStep(model, step.optimizer(model.parameters()), loss_of, None, None, compile_step)(*given)
    # Not among tensors without values: lowering computes what depends on no input.
    return lower_graph(found[0], {}, "tpu", Artifacts(found[0].name), fast_memory).stablehlo


def show(counts: list[Count], target: str) -> None:
    """Print a table with the ratios of ours to the best phrasing, in cycles and in temporaries."""
    table = Table(title=f"a bfloat16 training step on {target}")
    for name in ("", "way", "cycles", "of the best JAX", "temporaries", "of its", "uncounted"):
        table.add_column(name, justify="left" if name in ("", "way", "uncounted") else "right")
    for name in dict.fromkeys(count.family for count in counts):
        rows = [count for count in counts if count.family == name]
        best = min((row for row in rows if row.way != "ours"), key=lambda row: row.cycles)
        for row in rows:
            table.add_row(
                name, row.way, f"{row.cycles:,}", f"{row.cycles / best.cycles:.3f}",
                f"{row.temporaries / 1e6:,.0f} MB", f"{row.temporaries / max(best.temporaries, 1):.2f}",
                ", ".join(f"{number} {kind}" for kind, number in row.uncounted.items()),
            )  # fmt: skip
        table.add_section()
    Console(width=170).print(table)


def main() -> None:
    """Compile and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--match", default=".*", help="names of steps")
    parser.add_argument("--target", default="v5e:2x2")
    parser.add_argument("--layers", type=int, default=2, help="of transformers")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    transformers.LAYERS = given.layers
    counts: list[Count] = []
    with open_compiler(given.target) as compiler:
        for name, step in STEPS.items():
            if re.fullmatch(given.match, name):
                programs = {"ours": ours(step, compiler.fast_memory)}
                programs.update({way: lowered(step, way) for way in step.phrasings})
                for way, program in programs.items():
                    counts.append(counted(compiler, name, given.target, way, [program]))
                show(counts, given.target)
                if given.json is not None:
                    given.json.write_text(json.dumps([asdict(count) for count in counts], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
