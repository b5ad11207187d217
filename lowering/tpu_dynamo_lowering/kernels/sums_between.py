"""Sums of what lies between two positions, for all pairs of positions."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .. import triangular_sums  # noqa: F401  which defines the operator
from ..table import foreign_kernel
from .dtypes import wide

# Rows that share the sums of all that comes before them: as many as a TPU's registers have.
_BLOCK = 8


@foreign_kernel("tpu_dynamo_lowering::sums_between")
def sums_between(self: Array, dim: int, across: int, size: int, diagonal: int) -> Array:
    """Return the sums along `dim` from j + diagonal to i, at i along `dim` and at j of `size` across it.

    self: [..., n, ..., 1, ...], the dimension of 1 being `across`; half precision is added in float32. Zero where there
    is nothing between. No sum is a difference of two, so each is as exact as its own terms are large, and inf and nan
    reach only sums that they are part of. Rows are taken in blocks: a sum is what comes before the block of i, one
    number for all of its rows, and what is in it; XLA fuses both into what reads the sums, and never stores them.
    """
    line = jnp.moveaxis(jnp.squeeze(wide(self), across), dim - (across < dim), -1)
    n = line.shape[-1]
    row, column = (lax.broadcasted_iota(jnp.int32, (n, size), each) for each in (0, 1))
    # Of lines these are constants: libtpu takes 1,800 cycles to make each.
    first = np.arange(size) + diagonal
    total = inside = to_end = jnp.zeros((), line.dtype)
    for step in range(min(_BLOCK, n)):
        term = _shifted(line, diagonal + step, size)
        inside = inside + term
        to_end = to_end + jnp.where(first % _BLOCK + step < _BLOCK, term, 0)
        total = jnp.where(row - column == diagonal + step, inside[..., None, :], total)
    if n > _BLOCK:
        inside = _from_blocks(line)
        before = _before_blocks(inside, to_end, first // _BLOCK)
        total = jnp.where(row // _BLOCK > (column + diagonal) // _BLOCK, before + inside[..., None], total)
    return jnp.moveaxis(jnp.broadcast_to(total, (*line.shape, size)), (-2, -1), (dim, across))


def _shifted(line: Array, by: int, size: int) -> Array:
    """Return elements by, by + 1, ... along the last dimension, `size` of them, zeros where there are none."""
    edges = [(0, 0, 0)] * (line.ndim - 1)
    return lax.pad(line, jnp.zeros((), line.dtype), [*edges, (-by, size + by - line.shape[-1], 0)])


def _from_blocks(line: Array) -> Array:
    """Return the sums from the beginning of each element's block up to the element."""
    n = line.shape[-1]
    total, place = line, np.arange(n) % _BLOCK
    for step in range(1, _BLOCK):
        total = total + jnp.where(place >= step, _shifted(line, -step, n), 0)
    return total


def _before_blocks(inside: Array, to_end: Array, blocks: np.ndarray) -> Array:
    """Return, for each row and j, the sum from its first term to the beginning of the row's block.

    inside: what `_from_blocks` gave. to_end: for each j, the sum from its first term to the end of that term's block,
    whose number `blocks` is.
    """
    n, size = inside.shape[-1], to_end.shape[-1]
    # The block before each; before the first there is nothing.
    block = lax.broadcasted_iota(jnp.int32, (-(-n // _BLOCK), size), 0) - 1
    whole = _shifted(inside[..., _BLOCK - 1 :: _BLOCK], -1, block.shape[0])
    part = jnp.where(block == blocks, to_end[..., None, :], 0)
    sums = lax.cumsum(jnp.where(block > blocks, whole[..., None], part), axis=inside.ndim - 1)
    rows = jnp.broadcast_to(sums[..., None, :], (*sums.shape[:-1], _BLOCK, size))
    return rows.reshape(*sums.shape[:-2], -1, size)[..., :n, :]
