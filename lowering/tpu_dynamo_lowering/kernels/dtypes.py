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
    """Return JAX's dtype of the same number format.

    Raises NotImplementedError for a dtype that XLA has no format for (complex32, quantised and packed ones).
    """
    if dtype not in _JAX:
        raise NotImplementedError(f"{dtype} has no counterpart in XLA")
    return np.dtype(_JAX[dtype])


def torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    """Return PyTorch's dtype of the same number format. Raises NotImplementedError where it has none."""
    for ours, theirs in _JAX.items():
        if np.dtype(theirs) == dtype:
            return ours
    raise NotImplementedError(f"JAX's {dtype} has no counterpart in PyTorch")


def cast_number(value: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Cast a Python number to the dtype of the tensor that it meets, by PyTorch's rules.

    Integers wrap around, floats too large for the format become infinite. Numbers for half precision are rounded to
    float32 first.
    """
    if dtype == jnp.bool_:
        return np.asarray(bool(value))
    if jnp.issubdtype(dtype, jnp.integer):
        bits = 8 * dtype.itemsize
        return np.asarray(int(value) % 2**bits, f"uint{bits}").view(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        if jnp.issubdtype(dtype, jnp.complexfloating) or dtype == jnp.float64:
            return np.asarray(value, dtype)
        return np.asarray(value, np.float64).astype(np.float32).astype(dtype)


def checked_number(value: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Cast a Python number where PyTorch refuses integer overflow: factors, bounds and values to be written.

    Unsigned formats accept the negatives of their numbers, which wrap. Raises NotImplementedError for a number that an
    integer dtype cannot hold. Source: c10/util/overflows.h.
    """
    if jnp.issubdtype(dtype, jnp.integer):
        low, high = int(jnp.iinfo(dtype).min), int(jnp.iinfo(dtype).max)
        if isinstance(value, float):
            low, high = float(low), float(high)
        elif low == 0:
            low = -high
        if isinstance(value, complex) or not low <= value <= high:
            raise NotImplementedError(
                f"{value} cannot be converted to {dtype} without overflow; eager PyTorch refuses it too"
            )
    return cast_number(value, dtype)


def wide(value: Array) -> Array:
    """Cast half precision to float32, in which PyTorch computes and accumulates; leave other dtypes."""
    return value.astype(jnp.float32) if value.dtype in (jnp.bfloat16, jnp.float16) else value
