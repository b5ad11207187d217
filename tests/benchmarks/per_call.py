"""What a compiled call costs besides the computation.

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

from tpu_dynamo_runtime import Executable

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


def parts(model: torch.nn.Module, x: torch.Tensor) -> dict[str, float]:
    """The compiled call, the same with a backend that does nothing, and XLA's execution."""
    torch._dynamo.reset()
    called: list[tuple[Executable, list[Any]]] = []
    original = Executable.__call__

    def spy(self: Executable, inputs: Any) -> Any:
        called.append((self, list(inputs)))
        return original(self, inputs)

    Executable.__call__ = spy  # type: ignore[method-assign]
    compiled = torch.compile(model, backend="tpu")
    compiled(x)
    Executable.__call__ = original  # type: ignore[method-assign]
    executable, _ = called[0]
    operands = executable.operands(called[0][1])
    expected = model(x)
    nothing = torch.compile(model, backend=lambda graph, inputs: lambda *given: (expected,))
    found = seconds(
        {
            "compiled": lambda: compiled(x),
            "guards alone": lambda: nothing(x),
            "execution alone": lambda: executable.launch(operands),
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
        weights = [jnp.asarray(p.numpy()) for p in model.parameters()]
        jitted = jax.jit(lambda w, x: jnp.maximum(x @ w[0].T + w[1], 0) @ w[2].T + w[3])
        x_jax = jnp.asarray(x.numpy())
        ours = torch.compile(model, backend="tpu")
        whole = seconds(
            {
                "tpu": lambda: ours(x),
                "inductor": lambda: inductor(x),
                "jax.jit": lambda: jitted(weights, x_jax),
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
