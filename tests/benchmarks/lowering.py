"""The time to lower an operation, by a pattern of torch-mlir and by a kernel in JAX.

    python -m tests.benchmarks.lowering

Lowers chains of 64 operations that differ in their shapes, so that no kernel is lowered once for two, and of 128; the
difference is the price of 64 more, without what each graph takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from tpu_dynamo_lowering import lower, trace


def seconds(operation: Callable[[torch.Tensor], torch.Tensor], count: int, first: int) -> float:
    """Return the seconds that lowering takes for `count` operations, on tensors of `first` and more columns."""

    def chain(*tensors: torch.Tensor) -> list[torch.Tensor]:
        return [operation(tensor) for tensor in tensors]

    specs = [((8, first + i), (first + i, 1), torch.float32) for i in range(count)]
    graph = trace(chain, specs)
    started = time.perf_counter()
    lower(graph, {}, platform="cpu")
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    operations = {"torch-mlir's pattern (tanh)": torch.tanh, "a kernel (cumsum)": lambda x: torch.cumsum(x, 1)}
    for name, operation in operations.items():
        seconds(operation, 2, 4)
        extra = seconds(operation, 128, 1000) - seconds(operation, 64, 2000)
        print(f"{name}: {extra / 64 * 1e3:.2f} ms an operation")


if __name__ == "__main__":
    main()
