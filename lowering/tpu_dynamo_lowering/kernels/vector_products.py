"""Products of small matrices with wide ones, which a TPU's vector unit fuses with what is around them."""

from __future__ import annotations

import itertools
import math

import jax.numpy as jnp
from jax import Array

from .dtypes import wide

# The most rows and columns of a small matrix (with five a model takes 5.58 million cycles, by products 5.86), and the
# fewest columns of a wide one: a register's lanes.
_MOST = 5
_LANES = 128


def suits_vectors(pattern: str, left: Array, right: Array) -> bool:
    """Tell whether a TPU multiplies and adds faster than its matrix unit multiplies.

    That unit is 128 wide, and products of float32 pass it six times. It also decides the order of dimensions around it:
    of [3, 3] matrices with [3, 8192] ones, a state-space model's chunks with states, the copies take most of the time.
    """
    sizes, summed = _sizes(pattern, left, right)
    if not jnp.issubdtype(left.dtype, jnp.floating) or 0 in sizes.values():
        return False
    first, second = pattern.split("->")[0].split(",")
    columns = [
        math.prod(sizes[each] for each in own if each not in other) for own, other in ((first, second), (second, first))
    ]
    return max(min(columns), math.prod(sizes[each] for each in summed)) <= _MOST and max(columns) >= _LANES


def multiply_vectors(pattern: str, left: Array, right: Array) -> Array:
    """Multiply two tensors by a pattern of einsum as products of slices, added up; half precision in float32."""
    sizes, summed = _sizes(pattern, left, right)
    operands, result = pattern.split("->")
    parts = []
    for letters, operand in zip(operands.split(","), (left, right), strict=True):
        kept = [each for each in (*summed, *result) if each in letters]
        order = wide(operand).transpose([letters.index(each) for each in kept])
        parts.append(order.reshape([sizes[each] if each in letters else 1 for each in (*summed, *result)]))
    terms = [parts[0][at] * parts[1][at] for at in itertools.product(*(range(sizes[each]) for each in summed))]
    return sum(terms[1:], terms[0])


def _sizes(pattern: str, left: Array, right: Array) -> tuple[dict[str, int], list[str]]:
    """Return the size of each letter, and the letters that a pattern sums over."""
    operands, result = pattern.split("->")
    first, second = operands.split(",")
    sizes = {**dict(zip(first, left.shape, strict=True)), **dict(zip(second, right.shape, strict=True))}
    return sizes, [each for each in sizes if each not in result]
