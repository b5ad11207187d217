"""Products of quantised matrices: of eight-bit floats with scales, of integers in eight and four bits."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import torch
from jax import Array

from ..table import kernel
from ..target import ANY, Target
from .casts import cast_to
from .dtypes import jax_dtype

aten = torch.ops.aten


def _eight_bit_product(x: Array, y: Array, target: Target) -> Array:
    # bfloat16 holds every eight-bit float exactly, and all TPUs multiply it natively. XLA's CPU client does not: it
    # rewrites most such products, but leaves, and refuses to run, those of two transposed matrices.
    dtype = jnp.float32 if target.platform == "cpu" else jnp.bfloat16
    return jnp.matmul(x.astype(dtype), y.astype(dtype), preferred_element_type=jnp.float32)


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
    """Multiply two matrices of 8-bit floats, scaled as wholes or by rows and columns, and add a bias.

    Accumulated in float32, whatever `use_fast_accum` allows; `scale_result` is ignored, as in PyTorch on CPUs. Raises
    NotImplementedError for scales of blocks, which only GPUs have.
    """
    rows, columns = (self.shape[0], 1), (1, mat2.shape[1])
    if (scale_a.size > 1 and scale_a.shape != rows) or (scale_b.size > 1 and scale_b.shape != columns):
        raise NotImplementedError("torch._scaled_mm is lowered for tensor-wise and row-wise scales, not for blocks")
    product = _eight_bit_product(self, mat2, compiled_for) * scale_a * scale_b
    if bias is not None:
        product = product + bias.astype(jnp.float32)
    return cast_to(product, self.dtype if out_dtype is None else jax_dtype(out_dtype))


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
    """Multiply two matrices of 8-bit floats, scaled as wholes or by rows and columns (recipes 0 and 1).

    Raises NotImplementedError for the blocked recipes, which only GPUs have.
    """
    if not {*recipe_a, *recipe_b} <= {0, 1}:
        raise NotImplementedError("torch._scaled_mm_v2 is lowered for tensor-wise and row-wise scales, not for blocks")
    return scaled_mm(self, mat2, scale_a[0], scale_b[0], bias, None, out_dtype, compiled_for=compiled_for)


@kernel(aten._weight_int8pack_mm.default)
def weight_int8pack_mm(self: Array, mat2: Array, scales: Array) -> Array:
    """Multiply by a transposed int8 matrix, [columns, shared], whose rows have scales; accumulated in float32."""
    product = jnp.matmul(self, mat2.T.astype(self.dtype), preferred_element_type=jnp.float32)
    return product * scales.astype(jnp.float32)
