"""The price of a compiled call besides the computation.

    python -m tests.benchmarks.per_call [--json FILE]

Tiny models, where the computation is next to nothing. `ours` is what is left of the compiled call when Dynamo's guards
and wrappers (the same model with a backend that does nothing) and XLA's execution are taken away.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import torch

from tpu_dynamo_runtime import LoadedExecutable, SharedExecutable

from .side_by_side import seconds, show


class Layer(torch.nn.Module):
    """Twelve parameters and next to no computation."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.scales = torch.nn.ParameterList(torch.nn.Parameter(torch.ones(width)) for _ in range(12))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply by each."""
        for scale in self.scales:
            x = x * scale
        return x


def mlp() -> torch.nn.Module:
    """Two linear layers."""
    return torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))


class Recorder:
    """A loaded executable that remembers what it was last run on."""

    def __init__(self, loaded: LoadedExecutable):
        self.loaded = loaded

    def execute_sharded(self, operands: list[Any]) -> Any:
        """Run."""
        self.operands = list(operands)
        return self.loaded.execute_sharded(operands)


def parts(model: torch.nn.Module, x: torch.Tensor) -> dict[str, float]:
    """The compiled call, the same with a backend that does nothing, and XLA's execution."""
    from tpu_dynamo._torch_compat import leave_out_streams  # importing the package makes the device

    torch._dynamo.reset()
    called: list[SharedExecutable] = []
    original = SharedExecutable.__call__

    def spy(self: SharedExecutable, inputs: Any) -> Any:
        called.append(self)
        return original(self, inputs)

    SharedExecutable.__call__ = spy
    compiled = torch.compile(model, backend="tpu")
    compiled(x)
    SharedExecutable.__call__ = original
    entry = called[0]._program
    recorder = Recorder(entry.loaded())
    entry.executable = recorder
    compiled(x)
    entry.executable = recorder.loaded
    expected = model(x)

    def nothing_for(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        leave_out_streams(graph)
        return lambda *given: (expected,)

    nothing = torch.compile(model, backend=nothing_for)
    found = seconds(
        {
            "compiled": lambda: compiled(x),
            "guards alone": lambda: nothing(x),
            "execution alone": lambda: recorder.loaded.execute_sharded(recorder.operands),
        }
    )
    return {"ours": found["compiled"] - found["guards alone"] - found["execution alone"], **found}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        model, x = mlp(), torch.randn(8, 16)
        inductor = torch.compile(mlp(), backend="inductor")
        inductor(x)  # before there is a tpu device, for which Dynamo would look up a stream with every call
        weights = [jnp.asarray(p.numpy()) for p in model.parameters()]
        jitted = jax.jit(lambda w, x: jnp.maximum(x @ w[0].T + w[1], 0) @ w[2].T + w[3])
        x_jax = jnp.asarray(x.numpy())
        ours = torch.compile(model, backend="tpu")
        whole = seconds(
            {
                "tpu": lambda: ours(x),
                "inductor": lambda: inductor(x),
                "jax.jit, ready": lambda: jitted(weights, x_jax).block_until_ready(),
                "jax.jit, not waited for": lambda: jitted(weights, x_jax),
                "eager": lambda: model(x),
            }
        )
        show("a two-layer perceptron, the whole call", {"4 parameters": whole}, "us", given.json)
        rows = {}
        for layers in (0, 1, 12, 50):
            stack = torch.nn.Sequential(torch.nn.Linear(8, 8), *[Layer() for _ in range(layers)])
            rows[f"{len(list(stack.parameters()))} parameters"] = parts(stack, torch.randn(4, 8))
        show("a compiled call in parts", rows, "us", given.json and given.json.with_suffix(".parts.json"))


if __name__ == "__main__":
    main()
