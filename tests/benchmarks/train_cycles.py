"""Libtpu's estimates of a whole training step, beside the same step written by hand in JAX: cycles, bytes, memory.

    python -m tests.benchmarks.train_cycles [--target v5e:2x2] [--dtype bfloat16]

The example's GPT with four layers of 768 and 32,000 words on 8 x 512 tokens, AdamW. Needs libtpu; no chip. libtpu makes
one kernel of each whole attention that is written in JAX, product, softmax and product, and gives no cycles for it; both
programs are compiled without such kernels, as `tpu_dynamo_runtime.form_to_count` does it.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import torch
from rich.console import Console
from rich.table import Table

from tpu_dynamo._torch_compat import fake_copies
from tpu_dynamo.artifacts import Artifacts
from tpu_dynamo.graph.lowering import lower_graph
from tpu_dynamo.graph.prepare import BoxedCallable, PreparedGraph
from tpu_dynamo.training.step import TrainStep
from tpu_dynamo_lowering import jax_compat
from tpu_dynamo_runtime import cost_of, form_to_count, open_compiler

from .jax_training import State, adamw_step, gpt_loss
from .train_step import example

BATCH, LENGTH, WIDTH, HEADS, LAYERS, WORDS = 8, 512, 768, 12, 4, 32_000


def ours(model: torch.nn.Module, loss_of: Any, fast_memory: int | None) -> bytes:
    """Lower a step of the model, on tensors without values, for a target with so many bytes of fast memory."""
    found: list[bytes] = []

    def compile_step(step: PreparedGraph) -> BoxedCallable:
        found.append(lower_graph(step, {}, "tpu", Artifacts(step.name), fast_memory).stablehlo)
        values: Any = step.module.graph.output_node().args[0]
        return lambda _: [torch.empty_like(value.meta["val"]) for value in values]

    tokens = torch.zeros(BATCH, LENGTH, dtype=torch.int64)
    with fake_copies(model, (tokens, tokens), "tpu") as batch:
        TrainStep(model, torch.optim.AdamW(model.parameters(), lr=1e-4), loss_of, None, None, compile_step)(*batch)
    return found[0]


def by_hand(model: torch.nn.Module) -> bytes:
    """The StableHLO of the step in JAX."""
    dtype = jnp.dtype(str(next(model.parameters()).dtype).split(".")[1])
    weights = {n: jax.ShapeDtypeStruct(tuple(p.shape), dtype) for n, p in model.named_parameters()}
    state: State = (weights, weights, weights, jax.ShapeDtypeStruct((), jnp.float32))
    tokens = jax.ShapeDtypeStruct((BATCH, LENGTH), jnp.int32)
    # As precise as PyTorch's float32; of bfloat16 there is one precision.
    with jax.default_matmul_precision("highest" if dtype == jnp.float32 else "default"):
        step = jax.jit(adamw_step(gpt_loss(HEADS, LAYERS)), donate_argnums=0)
        lowered = step.trace(state, tokens, tokens).lower(lowering_platforms=("tpu",))
    return jax_compat.to_bytecode(lowered.compiler_ir("stablehlo"))


def main() -> None:
    """Compile and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--target", default="v5e:2x2")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    given = parser.parse_args()
    module = example()
    module.LENGTH = LENGTH
    model = module.GPT(WORDS, width=WIDTH, heads=HEADS, layers=LAYERS).to(getattr(torch, given.dtype))
    table = Table("", "cycles", "bytes accessed", "temporaries", "without cycles", title=f"a step on {given.target}")
    with open_compiler(given.target) as compiler:
        step = ours(model, module.loss_of, compiler.fast_memory)
        for name, program in {"JAX by hand": by_hand(model), "train_step": step}.items():
            compiled = compiler.compile(program)
            counted = form_to_count(compiler, program, compiled) or compiled
            cost = cost_of(counted.hlo, counted.flops, counted.chip)
            table.add_row(
                name,
                f"{cost.cycles:,}",
                f"{cost.bytes_accessed:,}",
                f"{counted.memory.temporaries:,}",
                str(cost.unestimated),
            )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
