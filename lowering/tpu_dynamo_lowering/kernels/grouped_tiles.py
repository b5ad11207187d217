"""Products by group as kernels from JAX's library for TPUs, in tiles that suit their shapes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

# Columns of a vector register, and the largest tiles of rows and of a matrix's dimensions. A whole dimension that is
# summed over is one tile: then a matrix stays in fast memory for all the rows of its group.
_LANES, _ROWS, _INNER, _OUTER = 128, 512, 2048, 512


def suits_kernel(*operands: Array) -> bool:
    """Tell whether the kernels take these operands: bfloat16 or float32, all alike, and not empty."""
    dtypes = {operand.dtype for operand in operands}
    return len(dtypes) == 1 and dtypes <= {jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float32)} and all(
        operand.size for operand in operands
    )  # fmt: skip


def rows_by_kernel(
    rows: Array, matrices: Array, sizes: Array, transposed: bool, precision: str, interpret: bool
) -> Array:
    """Multiply rows [S, K], sorted by group, by the matrices of their groups; rows past the last group give zero.

    The latter as zeros times the last matrix, which is finite. matrices: [groups, K, N], or [groups, N, K] if
    transposed. sizes: int32[groups]. precision: of products of float32, as JAX names it. interpret: without a TPU.
    """
    from .. import pallas_compat  # Pallas takes a while to import, which programs without it do not spend

    (count, inner), groups, outer = rows.shape, len(matrices), matrices.shape[1 if transposed else 2]
    tile = _row_tile(count, groups)
    # Rows past the last group become zeros of it: a mask of the product would be a pass of its own.
    seen = jnp.sum(sizes, dtype=jnp.int32)
    padded = _whole_tiles(jnp.where(jnp.arange(count)[:, None] < seen, rows, 0), tile)
    sizes = sizes.at[-1].add(count - seen)
    tiles = (tile, min(inner, _INNER), min(outer, _OUTER))
    visits = len(padded) // tile + groups - 1  # each group begins a tile anew
    reads = -(-outer // tiles[2]) * padded.size + matrices.size * (1 if inner <= _INNER else visits / groups)
    figures = _figures(visits * tile * inner * outer, reads + count * outer, rows.dtype)
    kernel = pallas_compat.Grouped(tiles, transposed, rows.dtype, figures, interpret)
    with jax.default_matmul_precision(precision):
        return pallas_compat.multiply_rows(kernel, padded, matrices, sizes)[:count]


def groups_by_kernel(left: Array, right: Array, sizes: Array, precision: str, interpret: bool) -> Array:
    """Multiply the transpose of [S, K] and [S, N] to [groups, K, N]: for each group the product over its own rows."""
    from .. import pallas_compat

    (count, inner), outer, groups = left.shape, right.shape[1], len(sizes)
    tile = _row_tile(count, groups)
    tiles = (tile, min(inner, _OUTER), min(outer, _OUTER))
    padded = [_whole_tiles(each, tile) for each in (left, right)]
    visits = len(padded[0]) // tile + groups
    reads = -(-outer // tiles[2]) * padded[0].size + -(-inner // tiles[1]) * padded[1].size
    figures = _figures(visits * tile * inner * outer, reads + groups * inner * outer, left.dtype)
    kernel = pallas_compat.Grouped(tiles, False, left.dtype, figures, interpret)
    with jax.default_matmul_precision(precision):
        return pallas_compat.multiply_groups(kernel, padded[0], padded[1], sizes)


def _row_tile(rows: int, groups: int) -> int:
    """Return a tile of rows: a quarter of a group's on average, of which the last tile of each is half empty."""
    quarter = rows // groups // 4
    return max(_LANES, min(_ROWS, 1 << max(quarter, 1).bit_length() - 1))


def _whole_tiles(rows: Array, tile: int) -> Array:
    return jnp.pad(rows, ((0, -len(rows) % tile), (0, 0)))


def _figures(products: float, elements: float, dtype: jnp.dtype) -> tuple[int, int, int]:
    """Return flops, transcendentals and bytes of a kernel from its multiplications and what it reads and writes."""
    return round(2 * products), 0, round(elements * dtype.itemsize)
