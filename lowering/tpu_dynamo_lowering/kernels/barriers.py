"""Barriers: operators that constrain the order of a program without computing anything."""

from __future__ import annotations

from jax import Array, lax

from ..table import foreign_kernel


@foreign_kernel("tpu_dynamo::optimization_barrier")
def optimization_barrier(values: list[Array]) -> tuple[Array, ...]:
    """Return the values unchanged; XLA neither merges them with equal earlier ones nor computes only a part of them.

    Source: StableHLO `optimization_barrier`.
    """
    return tuple(lax.optimization_barrier(tuple(values)))
