"""Reading and writing by index: embedding, gather, index, scatter and their in-place relatives."""

from __future__ import annotations

import jax.numpy as jnp
import torch
from jax import Array

from ..table import kernel

aten = torch.ops.aten


@kernel(aten.embedding.default)
def embedding(
    weight: Array, indices: Array, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Array:
    """Rows of a table: one gather."""
    return jnp.take(weight, indices, axis=0, mode="clip")
