"""Errors of ten families of models against float64: compiled for XLA's CPU client, and in eager PyTorch.

    python -m tests.benchmarks.model_errors [--match REGEX]

Models of one layer and of the published widths, with random weights. An error is the root of the mean square of a
result's differences, over that of the result in float64 from the same weights.
"""

from __future__ import annotations

import argparse
import os
import re
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import torch
from rich.console import Console
from rich.table import Table

import tpu_dynamo  # noqa: F401  which registers the backend

from .tpu_models import transformers
from .tpu_models.families import FAMILIES
from .tpu_models.values import disturb, random_inputs


def result_of(model: Any, given: list[torch.Tensor]) -> torch.Tensor:
    """Return a model's first result in float64."""
    with torch.no_grad():
        output = model(*given)
    return (output if isinstance(output, torch.Tensor) else output[0]).double()


def in_float64(model: Any) -> Any:
    """Convert a model to float64; its experts, if it has any, compute one after the other there.

    PyTorch has no grouped products of float64.
    """
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    return model.double()


def errors(name: str, dtype: torch.dtype) -> tuple[float, float]:
    """Return the errors of a family's model in a dtype, compiled and eager."""
    torch.manual_seed(0)
    model = FAMILIES[name].build("cpu")[0].float()
    disturb(model)
    model = model.to(dtype)
    given = [each.to(dtype) if each.is_floating_point() else each for each in random_inputs(name)]
    found = [result_of(way, given) for way in (torch.compile(model, backend="tpu"), model)]
    exact = result_of(in_float64(model), [each.double() if each.is_floating_point() else each for each in given])
    compiled, eager = (((each - exact).square().mean() / exact.square().mean()).sqrt().item() for each in found)
    torch._dynamo.reset()
    return compiled, eager


def main() -> None:
    """Run the models and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--match", default=".*", help="names of families")
    given = parser.parse_args()
    transformers.LAYERS = 1
    table = Table(title="errors against float64")
    for column in ("", "dtype", "compiled", "eager", "ratio"):
        table.add_column(column, justify="left" if column in ("", "dtype") else "right")
    for name in FAMILIES:
        if re.fullmatch(given.match, name):
            for dtype in (torch.bfloat16, torch.float32):
                compiled, eager = errors(name, dtype)
                row = (
                    name,
                    str(dtype).removeprefix("torch."),
                    f"{compiled:.3g}",
                    f"{eager:.3g}",
                    f"{compiled / eager:.3f}",
                )
                table.add_row(*row)
                print(*row, flush=True)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
