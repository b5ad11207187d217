"""The code that libtpu makes of our programs, beside the best of several ways to write the same model in JAX.

    python -m tests.benchmarks.tpu_code [--match REGEX] [--target v5e:2x2] [--target v6e:2x2] [--json FILE]

Needs libtpu; no chip. bfloat16 inference. Cycles are libtpu's estimates; both sides are compiled with
`xla_tpu_enable_flash_attention` off, since libtpu's own attention has none.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from rich.console import Console
from rich.table import Table

from tpu_dynamo.ahead_of_time.target_graphs import lower_model
from tpu_dynamo.options import Options
from tpu_dynamo_runtime import Compiler, cost_of, open_compiler

from .tpu_models.families import FAMILIES, Family, lowered

FLAGS = (("xla_tpu_enable_flash_attention", "False"),)


@dataclass(frozen=True)
class Count:
    """One program on one target.

    kernels: cycles, among `cycles`, by the CostEstimate of kernels. uncounted: instructions without cycles, by kind.
    """

    family: str
    target: str
    way: str
    cycles: int
    temporaries: int
    kernels: int
    uncounted: dict[str, int]


def counted(compiler: Compiler, family: str, target: str, way: str, programs: list[bytes]) -> Count:
    """Compile a model's programs and count them together."""
    compiled = [compiler.compile(program, FLAGS) for program in programs]
    costs = [cost_of(each.hlo, each.flops, each.chip) for each in compiled]
    uncounted: dict[str, int] = {}
    for cost in costs:
        for kind, number in cost.unestimated.items():
            uncounted[kind] = uncounted.get(kind, 0) + number
    return Count(
        family, target, way,
        sum(cost.cycles or 0 for cost in costs),
        max(each.memory.temporaries for each in compiled),
        sum(sum(cost.kernels.values()) for cost in costs),
        uncounted,
    )  # fmt: skip


def ours(family: Family, target: str, fast_memory: int | None) -> list[bytes]:
    """Lower the PyTorch model's graphs as `compile_for` does."""
    model, inputs = family.build()
    graphs = lower_model(model, inputs, None, "tpu", Options(target=target), fast_memory=fast_memory)
    return [graph.program.stablehlo for graph in graphs]


def show(counts: list[Count], target: str) -> None:
    """Print a table of one target, and the geometric mean of the ratios to the best phrasings."""
    table = Table(title=f"bfloat16 inference on {target}", caption="uncounted: instructions without cycles")
    for name in ("", "way", "cycles", "of the best JAX", "temporaries", "of kernels", "uncounted"):
        table.add_column(name, justify="left" if name in ("", "way", "uncounted") else "right")
    ratios: list[float] = []
    for family in dict.fromkeys(count.family for count in counts):
        rows = [count for count in counts if (count.family, count.target) == (family, target)]
        best = min((row.cycles for row in rows if row.way != "ours"), default=0)
        for row in rows:
            ratio = row.cycles / best if best else math.nan
            if row.way == "ours":
                ratios.append(ratio)
            uncounted = ", ".join(
                f"{number} {kind.removeprefix('custom-call ')}" for kind, number in row.uncounted.items()
            )
            table.add_row(
                row.family, row.way, f"{row.cycles:,}", f"{ratio:.3f}", f"{row.temporaries / 1e6:,.0f} MB",
                f"{row.kernels:,}", uncounted,
            )  # fmt: skip
        table.add_section()
    console = Console(width=170)
    console.print(table)
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        console.print(f"{target}: geometric mean of ours over the best JAX, {len(ratios)} families: {mean:.3f}")


def main() -> None:
    """Compile and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--match", default=".*", help="names of families")
    parser.add_argument("--target", action="append", help="may come several times; v5e:2x2 if it does not")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    chosen = {name: family for name, family in FAMILIES.items() if re.fullmatch(given.match, name)}
    counts: list[Count] = []
    for target in given.target or ["v5e:2x2"]:
        with open_compiler(target) as compiler:
            for name, family in chosen.items():
                counts.append(counted(compiler, name, target, "ours", ours(family, target, compiler.fast_memory)))
                for way, function in family.phrasings.items():
                    program = lowered(function, family.inputs(way))
                    counts.append(counted(compiler, name, target, way, [program]))
                show([count for count in counts if count.family == name], target)
                if given.json is not None:
                    given.json.write_text(json.dumps([asdict(count) for count in counts], indent=1), encoding="utf-8")
        show(counts, target)


if __name__ == "__main__":
    main()
