"""The operator that stands for StableHLO's `optimization_barrier` in graphs."""

from __future__ import annotations

import torch


def _fake(values: list[torch.Tensor]) -> list[torch.Tensor]:
    return [torch.empty_like(value) for value in values]


def register_barriers(definition: torch.library.Library) -> None:
    """Define the operator in `definition`: it returns its operands, and XLA moves no computation across it."""
    definition.define("optimization_barrier(Tensor[] values) -> Tensor[]")
    torch.library.register_fake("tpu_dynamo::optimization_barrier", _fake, lib=definition)
