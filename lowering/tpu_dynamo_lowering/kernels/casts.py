"""Casts between dtypes, and copies that may cast."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import torch
from jax import Array

from ..table import kernel
from .dtypes import jax_dtype

aten = torch.ops.aten
prims = torch.ops.prims

_NARROW = (jnp.int8, jnp.uint8, jnp.int16, jnp.uint16)


def cast(value: Array, dtype: torch.dtype) -> Array:
    """The values in another dtype, as PyTorch casts them.

    Floats to integers drop the fraction; complex numbers keep their real part; anything but zero is true. A float
    that the integer type cannot hold is undefined in PyTorch; narrow integers wrap, as they do in eager on a CPU, wide
    ones saturate, and nan becomes zero.
    """
    wanted = jax_dtype(dtype)
    if wanted == jnp.bool_:
        return value != 0
    if jnp.iscomplexobj(value) and not jnp.issubdtype(wanted, jnp.complexfloating):
        value = value.real
    if jnp.issubdtype(value.dtype, jnp.floating) and wanted in _NARROW:
        value = value.astype(jnp.int32)
    return value.astype(wanted)


@kernel(prims.convert_element_type.default)
def convert_element_type(a: Array, dtype: torch.dtype) -> Array:
    """The values in another dtype: one convert."""
    return cast(a, dtype)


@kernel(aten._to_copy.default)
def to_copy(
    self: Array,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool | None = None,
    non_blocking: bool = False,
    memory_format: Any = None,
) -> Array:
    """The values in another dtype; devices and layouts mean nothing inside a program."""
    return self if dtype is None else cast(self, dtype)


@kernel(aten.copy.default)
def copy(self: Array, src: Array, non_blocking: bool = False) -> Array:
    """`src` in the shape and dtype of `self`."""
    return jnp.broadcast_to(src, self.shape).astype(self.dtype)
