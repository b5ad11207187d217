"""Matrix products that are summed block by block, since the scales differ within a sum."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax


def multiply_blocks(
    left: Array, right: Array, left_scale: Array, right_scale: Array, left_offset: Array | None = None
) -> Array:
    """Multiply [M, blocks, K] and [blocks, K, N] to [M, N] in float32; each block's product is scaled before the sum.

    left_scale: [M, blocks] or [1, blocks]; right_scale: [blocks, N] or [blocks, 1]. left_offset: [M, 1] int32, added to
    integers on the left. These are summed in int32 in a block. One block is multiplied at a time: all of their products
    would take the result's memory for each block.
    """
    summed = jnp.int32 if jnp.issubdtype(left.dtype, jnp.integer) else jnp.float32

    def add(total: Array, block: tuple[Array, Array, Array, Array]) -> tuple[Array, None]:
        one, two, first, second = block
        product = jnp.matmul(one, two, preferred_element_type=summed)
        if left_offset is not None:
            product = product + left_offset * jnp.sum(two, axis=0, dtype=summed)
        return total + product.astype(jnp.float32) * (first[:, None] * second), None

    begin = jnp.zeros((left.shape[0], right.shape[-1]), jnp.float32)
    scales = left_scale.T.astype(jnp.float32), right_scale.astype(jnp.float32)
    return lax.scan(add, begin, (left.swapaxes(0, 1), right, *scales))[0]
