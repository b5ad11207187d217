"""Products of matrices of 8-bit floats with scales: of wholes, of rows and columns, of blocks, and by group."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import torch
from jax import Array

from ..table import kernel
from ..target import ANY, Target
from .block_products import multiply_blocks
from .casts import cast_to
from .dtypes import jax_dtype
from .grouped import grouped_mm

aten = torch.ops.aten

# The numbers of torch.nn.functional.ScalingType.
_TENSOR, _ROWS, _MICRO, _STRIPS, _SQUARES = 0, 1, 3, 4, 5
_BLOCK, _MICRO_BLOCK = 128, 32

_FOUR_BITS = (
    "scales of 16 numbers belong to matrices of 4-bit floats (NVFP4), which this backend does not have; take 8-bit"
    " floats with scales of tensors, rows, 1x128 or 128x128 blocks, or MX scales of 32 numbers"
)
_UNKNOWN_SCALES = (
    "torch._scaled_mm with scales of the shapes {} and {} for [{}, {}] x [{}, {}]; take one scale for each tensor, one"
    " for each row and column, or for each block of 1x128 or 128x128"
)


def _multiplied(target: Target) -> jnp.dtype:
    """Return the dtype in which 8-bit floats are multiplied.

    bfloat16 holds every eight-bit float exactly, and all TPUs multiply it natively. XLA's CPU client does not: it
    rewrites most such products, but leaves, and refuses to run, those of two transposed matrices.
    """
    return jnp.dtype(jnp.float32 if target.platform == "cpu" else jnp.bfloat16)


def _finished(product: Array, self: Array, bias: Array | None, out_dtype: torch.dtype | None) -> Array:
    if bias is not None:
        product = product + bias.astype(jnp.float32)
    return cast_to(product, self.dtype if out_dtype is None else jax_dtype(out_dtype))


def _scaled_as_wholes(self: Array, mat2: Array, scale_a: Array, scale_b: Array, target: Target) -> Array:
    dtype = _multiplied(target)
    return jnp.matmul(self.astype(dtype), mat2.astype(dtype), preferred_element_type=jnp.float32) * scale_a * scale_b


def _scaled_in_blocks(self: Array, mat2: Array, scale_a: Array, scale_b: Array, target: Target) -> Array:
    """Multiply with scales of blocks.

    scale_a: [M, blocks] or [M / 128, blocks]; scale_b: [blocks, N] or [blocks, N / 128].
    """
    (rows, shared), columns = self.shape, mat2.shape[1]
    blocks, dtype = -(-shared // _BLOCK), _multiplied(target)
    short = blocks * _BLOCK - shared
    left = jnp.pad(self.astype(dtype), ((0, 0), (0, short))).reshape(rows, blocks, _BLOCK)
    right = jnp.pad(mat2.astype(dtype), ((0, short), (0, 0))).reshape(blocks, _BLOCK, columns)
    first = scale_a if scale_a.shape[0] == rows else jnp.repeat(scale_a, _BLOCK, axis=0)[:rows]
    second = scale_b if scale_b.shape[1] == columns else jnp.repeat(scale_b, _BLOCK, axis=1)[:, :columns]
    return multiply_blocks(left, right, first, second)


def _micro_scales(swizzled: Array, rows: int, shared: int) -> Array:
    """Return [rows, shared] float32 of the scales of 32 numbers each, which GPUs take in tiles of 128 x 4.

    In a tile the rows r, r + 32, r + 64 and r + 96 stand side by side, padded to whole tiles (SWIZZLE_32_4_4).
    Source: cuBLAS, "1D block scaling factors layout".
    """
    down, across = -(-rows // 128), -(-shared // (4 * _MICRO_BLOCK))
    tiles = swizzled.astype(jnp.float32).reshape(down, across, 32, 4, 4)
    scales = tiles.transpose(0, 3, 2, 1, 4).reshape(down * 128, across * 4)
    return jnp.repeat(scales, _MICRO_BLOCK, axis=1)[:rows, :shared]


def _scaled_by_powers(self: Array, mat2: Array, scale_a: Array, scale_b: Array, target: Target) -> Array:
    """Multiply with MX scales: they are powers of two, by which operands are multiplied exactly, also in bfloat16."""
    dtype = _multiplied(target)
    first = _micro_scales(scale_a, *self.shape)
    second = _micro_scales(scale_b, *reversed(mat2.shape)).T
    operands = ((x.astype(jnp.float32) * s).astype(dtype) for x, s in ((self, first), (mat2, second)))
    return jnp.matmul(*operands, preferred_element_type=jnp.float32)


@kernel(aten._scaled_mm.default)
def scaled_mm(
    self: Array,
    mat2: Array,
    scale_a: Array,
    scale_b: Array,
    bias: Array | None = None,
    scale_result: Array | None = None,
    out_dtype: torch.dtype | None = None,
    use_fast_accum: bool = False,
    *,
    compiled_for: Target = ANY,
) -> Array:
    """Multiply two matrices of 8-bit floats, scaled as wholes, by rows and columns or by blocks, and add a bias.

    Accumulated in float32, whatever `use_fast_accum` allows; `scale_result` is ignored, as in PyTorch on CPUs. Scales
    of blocks: [M, K / 128] or [M / 128, K / 128], and [K / 128, N] or [K / 128, N / 128]; MX scales of 32 numbers are
    float8_e8m0fnu in the order in which GPUs take them. Raises NotImplementedError for NVFP4.
    """
    (rows, shared), columns = self.shape, mat2.shape[1]
    blocks = -(-shared // _BLOCK)
    if scale_a.dtype == jnp.float8_e4m3fn:
        raise NotImplementedError(_FOUR_BITS)
    if scale_a.dtype == jnp.float8_e8m0fnu:
        product = _scaled_by_powers(self, mat2, scale_a, scale_b, compiled_for)
    elif scale_a.size == scale_b.size == 1 or (scale_a.shape, scale_b.shape) == ((rows, 1), (1, columns)):
        product = _scaled_as_wholes(self, mat2, scale_a, scale_b, compiled_for)
    elif scale_a.ndim == scale_b.ndim == 2 and scale_a.shape[1] == scale_b.shape[0] == blocks:
        product = _scaled_in_blocks(self, mat2, scale_a, scale_b, compiled_for)
    else:
        raise NotImplementedError(_UNKNOWN_SCALES.format(scale_a.shape, scale_b.shape, *self.shape, *mat2.shape))
    return _finished(product, self, bias, out_dtype)


@kernel(aten._scaled_mm_v2.default)
def scaled_mm_v2(
    self: Array,
    mat2: Array,
    scale_a: Sequence[Array],
    recipe_a: Sequence[int],
    swizzle_a: Sequence[int],
    scale_b: Sequence[Array],
    recipe_b: Sequence[int],
    swizzle_b: Sequence[int],
    bias: Array | None,
    out_dtype: torch.dtype | None,
    contraction_dim: Sequence[int] = (),
    use_fast_accum: bool = False,
    *,
    compiled_for: Target = ANY,
) -> Array:
    """Multiply two matrices of 8-bit floats, whose scales are of the named recipes, and add a bias.

    Scales of 1x128 blocks are [M, K / 128] and [N, K / 128], those of 128x128 blocks [K / 128, M / 128] and
    [K / 128, N / 128] with K / 128 padded to fours. Raises NotImplementedError for NVFP4.
    """
    if not {*recipe_a, *recipe_b} <= {_TENSOR, _ROWS, _MICRO, _STRIPS, _SQUARES}:
        raise NotImplementedError(_FOUR_BITS)
    blocks = -(-self.shape[1] // _BLOCK)
    first, second = scale_a[0], scale_b[0]
    if recipe_a[0] == _SQUARES:
        first = first[:blocks].T
    if recipe_b[0] in (_STRIPS, _SQUARES):
        second = second.T if recipe_b[0] == _STRIPS else second[:blocks]
    return scaled_mm(self, mat2, first, second, bias, None, out_dtype, compiled_for=compiled_for)


@kernel(aten._scaled_grouped_mm.default)
def scaled_grouped_mm(
    self: Array,
    mat2: Array,
    scale_a: Array,
    scale_b: Array,
    offs: Array | None = None,
    bias: Array | None = None,
    scale_result: Array | None = None,
    out_dtype: torch.dtype | None = None,
    use_fast_accum: bool = False,
    *,
    compiled_for: Target = ANY,
) -> Array:
    """Multiply matrices of 8-bit floats by group, as `_grouped_mm` does, with scales of rows and columns.

    A scale for each row of `self` and each column of `mat2`: [S] or [G, M], and [G, N] or [S]; grouped by the shared
    dimension, [G * M] and [G * N]. Raises NotImplementedError for MX scales, whose places depend on the groups' sizes.
    """
    if scale_a.dtype != jnp.float32:
        raise NotImplementedError(
            "torch._scaled_grouped_mm with MX scales, each group's padded to the tiles of a GPU; take float32 scales of"
            " rows and columns"
        )
    dtype = _multiplied(compiled_for)
    product = grouped_mm(self.astype(dtype), mat2.astype(dtype), offs, compiled_for=compiled_for).astype(jnp.float32)
    if product.ndim == 3:
        groups = product.shape[0]
        scale = scale_a.reshape(groups, -1, 1) * scale_b.reshape(groups, 1, -1)
    else:
        assert offs is not None
        by_rows = self.ndim == 2
        place = jnp.arange(product.shape[0 if by_rows else 1])
        group = jnp.minimum(jnp.searchsorted(offs, place, side="right"), offs.shape[0] - 1)
        scale = scale_a[:, None] * scale_b[group] if by_rows else scale_a[group].T * scale_b
    return cast_to(product * scale, jax_dtype(out_dtype or torch.bfloat16))
