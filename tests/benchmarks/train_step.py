"""The price of a training step: a whole step in one executable, the ordinary loop, JAX by hand, Inductor, eager; memory.

python -m tests.benchmarks.train_step [--json FILE]
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import torch

import tpu_dynamo
from tpu_dynamo.session import session
from tpu_dynamo_lowering import jax_compat
from tpu_dynamo_runtime import client

from .jax_training import adamw_step, gpt_loss, start
from .side_by_side import seconds, show

EXAMPLES = Path(__file__).parents[2] / "examples"


def example() -> Any:
    """The example's module: its GPT, its text and its loss."""
    sys.path.insert(0, str(EXAMPLES))  # by name, since Dynamo imports what it traces
    return importlib.import_module("train_gpt")


def loop(run: Callable[..., Any], model: Any, loss_of: Any, tokens: torch.Tensor, following: torch.Tensor) -> Any:
    """The ordinary step of a model that is called by `run`."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        loss_of(run(tokens), following).backward()
        optimizer.step()

    return step


def by_hand(model: torch.nn.Module, tokens: torch.Tensor, following: torch.Tensor) -> Callable[[], float]:
    """The step in JAX, from the model's weights; it ends when the new weights are there."""
    state: Any = start({name: jnp.array(p.detach().numpy()) for name, p in model.named_parameters()})
    batch = [jnp.asarray(part.numpy(), dtype=jnp.int32) for part in (tokens, following)]
    compiled = jax.jit(adamw_step(gpt_loss(heads=4, layers=3)), donate_argnums=0)

    def step() -> float:
        nonlocal state
        loss, state = compiled(state, *batch)
        jax.block_until_ready(state)
        return float(loss)

    return step


def memory_of(stablehlo: bytes) -> dict[str, int]:
    """XLA's own figures of a program, in bytes."""
    stats = client("cpu").compile(stablehlo).get_compiled_memory_stats()
    arguments, outputs = stats.argument_size_in_bytes, stats.output_size_in_bytes
    aliased, temporaries = stats.alias_size_in_bytes, stats.temp_size_in_bytes
    peak = arguments + outputs - aliased + temporaries
    return {"arguments": arguments, "results": outputs, "shared": aliased, "temporaries": temporaries, "peak": peak}


def undonated(stablehlo: bytes) -> bytes:
    """Compile a program without donation, so that every result has new memory."""
    module = jax_compat.parse(stablehlo, jax_compat.new_context())
    function = jax_compat.functions(module)["main"]
    del function.attributes["arg_attrs"]
    return jax_compat.to_bytecode(module)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    module = example()
    text = module.Text()
    tokens, following = text.batch(0)
    loss_of = module.loss_of

    def gpt(device: str) -> Any:
        torch.manual_seed(0)
        return module.GPT(len(text.characters)).to(device)

    on_device = tokens.to("tpu"), following.to("tpu")
    model = gpt("tpu")
    step = tpu_dynamo.train_step(model, torch.optim.AdamW(model.parameters(), lr=1e-4), loss_of)
    losses = [float(step(*on_device).detach()) for _ in range(3)]
    (program,) = session()._graphs._entries.values()
    memory = {"donated": memory_of(program.stablehlo), "not donated": memory_of(undonated(program.stablehlo))}
    plain, compiled, inductor = gpt("cpu"), gpt("tpu"), gpt("cpu")
    jax_step = by_hand(plain, tokens, following)
    torch.testing.assert_close([jax_step() for _ in range(3)], losses, rtol=1e-5, atol=1e-5)
    ways = {
        "whole step": lambda: step(*on_device),
        "compiled model, eager AdamW, on the device": loop(
            torch.compile(compiled, backend="tpu"), compiled, loss_of, *on_device
        ),
        "JAX by hand": jax_step,
        "Inductor, eager AdamW": loop(torch.compile(inductor), inductor, loss_of, tokens, following),
        "eager": loop(plain, plain, loss_of, tokens, following),
    }
    show("a training step of the example's GPT", {"time": seconds(ways, rounds=9)}, "ms", given.json)
    for name, figures in memory.items():
        print(f"{name:12}", ", ".join(f"{what} {size / 2**20:.1f} MiB" for what, size in figures.items()))


if __name__ == "__main__":
    main()
