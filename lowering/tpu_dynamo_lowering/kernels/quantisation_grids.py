"""The choice of grids for quantised values, from the values themselves: by tensor and by token."""

from __future__ import annotations

import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import foreign_kernel
from .casts import cast, rounded
from .dtypes import wide

# The eps of `_choose_qparams_per_token_asymmetric_impl`, and its range.
_EPSILON = torch.finfo(torch.float32).eps
_INT8 = torch.iinfo(torch.int8)


def _ends(value: Array, *, rows: bool) -> tuple[Array, Array]:
    """Return the least and the most of all values, or of each row of the last dimension, which stays; zero included.

    Half precision comes back as float32.
    """
    if value.size == 0 and (not rows or value.shape[-1] == 0):
        raise NotImplementedError("no grid can be chosen for no values; eager PyTorch refuses it too")
    axis = -1 if rows else None
    least, most = (wide(find(value, axis=axis, keepdims=rows)) for find in (jnp.min, jnp.max))
    return jnp.minimum(least, 0), jnp.maximum(most, 0)


def _divided(value: Array, steps: float) -> Array:
    """Divide by a number of steps, where XLA would multiply by its reciprocal.

    By a scale that is rounded otherwise the largest value lies no longer in the middle of two steps.
    """
    return value / lax.optimization_barrier(jnp.float32(steps))


@foreign_kernel("quantized_decomposed::choose_qparams")
def choose_qparams(input: Array, quant_min: int, quant_max: int, eps: float, dtype: torch.dtype) -> tuple[Array, Array]:
    """Choose a scale, float64[1], and a zero point, int64[1], for a grid between the least and the most value.

    Each result is rounded as in eager PyTorch, since scales decide which step a value is rounded to.
    Source: `determine_qparams` in torch/ao/quantization/utils.py.
    """
    least, most = _ends(input, rows=False)
    scale = rounded(_divided(rounded(most - least, input.dtype), quant_max - quant_min), input.dtype)
    scale = jnp.maximum(scale, jnp.float32(eps))
    # In int32, which is what nan wraps around in.
    zero_point = quant_min - cast(jnp.round(least / scale), torch.int32)
    zero_point = jnp.clip(zero_point, quant_min, quant_max)
    return scale.reshape(1).astype(jnp.float64), zero_point.reshape(1).astype(jnp.int64)


@foreign_kernel("quantized_decomposed::choose_qparams_symmetric")
def choose_qparams_symmetric(
    input: Array, quant_min: int, quant_max: int, eps: float, dtype: torch.dtype
) -> tuple[Array, Array]:
    """Choose a scale, float64[1], for a grid whose zero point, int64[1], stands for zero in the middle of the range.

    Source: `determine_qparams` in torch/ao/quantization/utils.py.
    """
    least, most = _ends(input, rows=False)
    scale = rounded(_divided(jnp.maximum(-least, most), (quant_max - quant_min) / 2), input.dtype)
    scale = jnp.maximum(scale, jnp.float32(eps))
    return scale.reshape(1).astype(jnp.float64), jnp.full(1, 128 if dtype == torch.uint8 else 0, jnp.int64)


@foreign_kernel("quantized_decomposed::choose_qparams_per_token")
def choose_qparams_per_token(input: Array, dtype: torch.dtype) -> tuple[Array, Array]:
    """Choose the scale of a symmetric int8 grid for each row of the last dimension; zero points are 0.

    The results are [..., 1]. Raises NotImplementedError for other dtypes than int8, as eager PyTorch does.
    """
    if dtype != torch.int8:
        raise NotImplementedError(f"choose_qparams_per_token for {dtype}; eager PyTorch refuses it too")
    least, most = _ends(input, rows=True)
    # Only bfloat16 has the range for scales, float16 goes on as float32.
    kept = input.dtype if input.dtype == jnp.bfloat16 else jnp.dtype(jnp.float32)
    scale = jnp.maximum(jnp.maximum(-least, most), rounded(jnp.float32(1e-5), kept))
    scale = rounded(_divided(scale, _INT8.max), kept)
    return scale, jnp.zeros_like(scale)


@foreign_kernel("quantized_decomposed::choose_qparams_per_token_asymmetric")
@foreign_kernel("quantized_decomposed::_choose_qparams_per_token_asymmetric_impl")
def choose_qparams_per_token_asymmetric(input: Array, dtype: torch.dtype) -> tuple[Array, Array]:
    """Choose scales and zero points of int8 grids, [..., 1], for each row of the last dimension.

    Source: XNNPACK's `xnn_qd8_f32` parameters, by torch/ao/quantization/fx/_decomposed.py.
    """

    def kept(value: Array) -> Array:
        return rounded(value, input.dtype)

    least, most = _ends(input, rows=True)
    scale = kept(_divided(kept(most - least), _INT8.max - _INT8.min))
    scale = jnp.maximum(scale, kept(jnp.float32(_EPSILON)))
    low, high = kept(least / scale), kept(most / scale)
    error = kept(kept(_INT8.min + low) + kept(_INT8.max + high))
    zero_point = jnp.where(error > 0, kept(_INT8.min - low), kept(_INT8.max - high))
    zero_point = jnp.round(jnp.clip(zero_point, _INT8.min, _INT8.max))
    return scale.astype(jnp.float64), cast(zero_point, torch.int64)
