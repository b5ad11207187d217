"""The memory that checkpointing saves in a whole training step on a TPU: libtpu's temporaries with and without it.

    python -m tests.benchmarks.checkpointing [--target v5e:2x2]

Six blocks of eight matrix products and sines on 32,768 rows of 64. Needs libtpu; no chip.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from tpu_dynamo._torch_compat import fake_copies
from tpu_dynamo.artifacts import Artifacts
from tpu_dynamo.graph.lowering import lower_graph
from tpu_dynamo.graph.prepare import BoxedCallable, PreparedGraph
from tpu_dynamo.training.step import TrainStep
from tpu_dynamo_runtime import open_compiler


class Blocks(torch.nn.Module):
    """Blocks, each of them checkpointed if asked."""

    def __init__(self, checkpointed: bool):
        super().__init__()
        self.checkpointed = checkpointed
        self.layers = torch.nn.ModuleList(torch.nn.Linear(64, 64) for _ in range(48))

    def block(self, x: torch.Tensor, first: int) -> torch.Tensor:
        """Eight layers."""
        for layer in self.layers[first : first + 8]:
            x = torch.sin(layer(x))
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """All blocks, and a loss."""
        for first in range(0, 48, 8):
            x = checkpoint(self.block, x, first, use_reentrant=False) if self.checkpointed else self.block(x, first)
        return x.square().mean()


def step_program(model: torch.nn.Module, fast_memory: int | None) -> bytes:
    """Lower one step of SGD, on tensors without values, for a target with so many bytes of fast memory."""
    found: list[bytes] = []

    def compile_step(step: PreparedGraph) -> BoxedCallable:
        found.append(lower_graph(step, {}, "tpu", Artifacts(step.name), fast_memory).stablehlo)
        values: Any = step.module.graph.output_node().args[0]
        return lambda _: [torch.empty_like(value.meta["val"]) for value in values]

    with fake_copies(model, (torch.empty(32_768, 64),), "tpu") as (x,):
        TrainStep(model, torch.optim.SGD(model.parameters(), lr=0.1), None, None, None, compile_step)(x)
    return found[0]


def main() -> None:
    """Compile and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="v5e:2x2")
    target = parser.parse_args().target
    with open_compiler(target) as compiler:
        for checkpointed in (False, True):
            memory = compiler.compile(step_program(Blocks(checkpointed), compiler.fast_memory)).memory
            name = "checkpointed" if checkpointed else "plain"
            print(f"{name}: {memory.temporaries / 1e6:.0f} MB of temporaries on {target}", flush=True)


if __name__ == "__main__":
    main()
