"""Single slices of tensors of bytes, which XLA takes from a copy of the whole tensor in another layout."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, lax


def gather_one(
    operand: Array,
    indices: Array,
    *,
    collapsed: Sequence[int],
    start_index_map: Sequence[int],
    slice_sizes: Sequence[int],
    shape: Sequence[int],
) -> Array:
    """Gather the one slice that `indices` name: they name it twice, since a gather of several copies nothing.

    indices: as many as start_index_map has. The result is [*shape], which has the dimensions of the slice that are not
    collapsed, and others of size 1. Source: StableHLO `gather`.
    """
    begin = indices.reshape(1, -1)
    offsets = tuple(range(1, 1 + len(slice_sizes) - len(collapsed)))
    numbers = lax.GatherDimensionNumbers(offsets, tuple(collapsed), tuple(start_index_map))
    mode = lax.GatherScatterMode.PROMISE_IN_BOUNDS  # StableHLO clamps, as what this replaces does
    both = lax.gather(operand, jnp.concatenate([begin, begin]), numbers, tuple(slice_sizes), mode=mode)
    return both[0].reshape(shape)
