"""PyTorch's dtypes as JAX spells them."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from jax import Array

_JAX = {
    torch.bool: jnp.bool_,
    torch.uint8: jnp.uint8,
    torch.uint16: jnp.uint16,
    torch.uint32: jnp.uint32,
    torch.uint64: jnp.uint64,
    torch.int8: jnp.int8,
    torch.int16: jnp.int16,
    torch.int32: jnp.int32,
    torch.int64: jnp.int64,
    torch.float16: jnp.float16,
    torch.bfloat16: jnp.bfloat16,
    torch.float32: jnp.float32,
    torch.float64: jnp.float64,
    torch.complex64: jnp.complex64,
    torch.complex128: jnp.complex128,
    torch.float8_e4m3fn: jnp.float8_e4m3fn,
    torch.float8_e4m3fnuz: jnp.float8_e4m3fnuz,
    torch.float8_e5m2: jnp.float8_e5m2,
    torch.float8_e5m2fnuz: jnp.float8_e5m2fnuz,
    torch.float8_e8m0fnu: jnp.float8_e8m0fnu,
}


def jax_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """The same number format in JAX.

    Raises NotImplementedError for a dtype that XLA has no format for (complex32, quantised and packed ones).
    """
    if dtype not in _JAX:
        raise NotImplementedError(f"{dtype} has no counterpart in XLA")
    return np.dtype(_JAX[dtype])


def wide(value: Array) -> Array:
    """Half precision as float32, in which PyTorch computes and accumulates."""
    return value.astype(jnp.float32) if value.dtype in (jnp.bfloat16, jnp.float16) else value
