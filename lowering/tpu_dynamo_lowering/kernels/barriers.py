"""What orders a program without computing anything."""

from __future__ import annotations

from jax import Array, lax

from ..table import foreign_kernel


@foreign_kernel("tpu_dynamo::optimization_barrier")
def optimization_barrier(values: list[Array]) -> tuple[Array, ...]:
    """The same values, which XLA neither merges with equal ones before it nor computes in part."""
    return tuple(lax.optimization_barrier(tuple(values)))
