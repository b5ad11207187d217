"""Products and convolutions of 64-bit integers, exact modulo 2^64, of operations that a TPU has.

XLA rewrites 64-bit integers as pairs of 32-bit ones for a TPU, but not in `dot_general` and `convolution`. Small
products are multiplied and summed, elementwise. Larger ones are made of the operands' bytes: a TPU multiplies matrices
of 8-bit integers and sums in 32 bits, and of the 64 products of two bytes only the 36 below 2^64 count.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp
from jax import Array, lax

# At most four products of bytes are added below 2^32; those above may overflow, since what overflows does not count.
_TERMS = 2**14
assert 4 * _TERMS * 255**2 < 2**32
# Of so many products and fewer, libtpu expects the elementwise form to be as quick, and compiles it sooner.
_FEW = 2**16
# Elements of a result that are computed at once; the rest waits, so that the partial sums fit.
_BLOCK = 2**22

DotDimensions = tuple[tuple[Sequence[int], Sequence[int]], tuple[Sequence[int], Sequence[int]]]


def _bytes(value: Array) -> list[Array]:
    """Split 64-bit integers into their eight bytes, the lowest first."""
    return [(value.astype(jnp.uint64) >> (8 * i)).astype(jnp.uint8) for i in range(8)]


def _added(arrays: Iterable[Array]) -> Array:
    return reduce(operator.add, arrays)


def _sum_of_bytes(sums: Sequence[Array]) -> Array:
    """Sum the summands, the n-th times 2^(8 n), modulo 2^64."""
    return _added(part.astype(jnp.uint64) << (8 * n) for n, part in enumerate(sums))


def _product_of_bytes(left: Array, right: Array) -> Array:
    """Multiply [m, k] by [k, n] for k up to _TERMS."""
    lefts, rights = _bytes(left), _bytes(right)

    def product(i: int, j: int) -> Array:
        return lax.bitcast_convert_type(lax.dot(lefts[i], rights[j], preferred_element_type=jnp.int32), jnp.uint32)

    return _sum_of_bytes([_added(product(i, n - i) for i in range(n + 1)) for n in range(8)])


def _product(left: Array, right: Array) -> Array:
    """Multiply [m, k] by [k, n], both uint64."""
    (m, k), n = left.shape, right.shape[1]
    if min(m, n) == 1 or m * k * n <= _FEW:
        return jnp.sum(left[:, :, None] * right, axis=1, dtype=jnp.uint64)
    if k <= _TERMS:
        return _product_of_bytes(left, right)
    missing = -k % _TERMS
    lefts = jnp.pad(left, ((0, 0), (0, missing))).reshape(m, -1, _TERMS).swapaxes(0, 1)
    rights = jnp.pad(right, ((0, missing), (0, 0))).reshape(-1, _TERMS, n)

    def add(total: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        return total + _product_of_bytes(*pair), None

    return lax.scan(add, jnp.zeros((m, n), jnp.uint64), (lefts, rights))[0]


def _product_in_blocks(left: Array, right: Array) -> Array:
    """Multiply [m, k] by [k, n], some rows at a time where the whole has more than _BLOCK elements."""
    m, n = left.shape[0], right.shape[1]
    rows = max(_BLOCK // max(n, 1), 1)
    if m <= rows:
        return _product(left, right)
    blocks = jnp.pad(left, ((0, -m % rows), (0, 0))).reshape(-1, rows, left.shape[1])
    return lax.map(lambda block: _product(block, right), blocks).reshape(-1, n)[:m]


def dot_general(left: Array, right: Array, dimension_numbers: DotDimensions) -> Array:
    """Compute `lax.dot_general` of 64-bit integers of one dtype.

    The result has the batch dimensions, then those of `left`, then those of `right`.
    """
    (left_sum, right_sum), (left_batch, right_batch) = dimension_numbers
    left_free = [d for d in range(left.ndim) if d not in (*left_sum, *left_batch)]
    right_free = [d for d in range(right.ndim) if d not in (*right_sum, *right_batch)]

    def sizes(value: Array, dims: Sequence[int]) -> list[int]:
        return [value.shape[d] for d in dims]

    batch, k = sizes(left, left_batch), math.prod(sizes(left, left_sum))
    count, m, n = math.prod(batch), math.prod(sizes(left, left_free)), math.prod(sizes(right, right_free))
    lefts = left.transpose(*left_batch, *left_free, *left_sum).reshape(count, m, k).astype(jnp.uint64)
    rights = right.transpose(*right_batch, *right_sum, *right_free).reshape(count, k, n).astype(jnp.uint64)
    if count == 1:
        product = _product_in_blocks(lefts[0], rights[0])
    elif count * m * n <= _BLOCK:
        product = jax.vmap(_product)(lefts, rights)
    else:
        at_once = max(_BLOCK // (m * n), 1)
        product = lax.map(lambda pair: _product_in_blocks(*pair), (lefts, rights), batch_size=at_once)
    return product.astype(left.dtype).reshape(*batch, *sizes(left, left_free), *sizes(right, right_free))


def _convolution_of_bytes(
    left: Array,
    right: Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    left_dilation: Sequence[int],
    right_dilation: Sequence[int],
    groups: int,
) -> Array:
    """Convolve all bytes at once: those of [n, c, ...] are a batch, those of [o, c / groups, ...] are features.

    Of c / groups times the places of the kernel there are up to _TERMS.
    """
    n, o = left.shape[0], right.shape[0]
    images = jnp.concatenate(_bytes(left))
    kernels = jnp.stack(_bytes(right.reshape(groups, o // groups, *right.shape[1:])), axis=1)
    products = lax.conv_general_dilated(
        images,
        kernels.reshape(8 * o, *right.shape[1:]),
        strides,
        padding,
        left_dilation,
        right_dilation,
        feature_group_count=groups,
        preferred_element_type=jnp.int32,
    )
    places = products.shape[2:]
    products = lax.bitcast_convert_type(products, jnp.uint32).reshape(8, n, groups, 8, o // groups, *places)
    sums = [_added(products[i, :, :, k - i] for i in range(k + 1)) for k in range(8)]
    return _sum_of_bytes(sums).reshape(n, o, *places)


def convolution(
    left: Array,
    right: Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    left_dilation: Sequence[int],
    right_dilation: Sequence[int],
    dimension_numbers: tuple[Sequence[int], Sequence[int], Sequence[int]],
    groups: int,
) -> Array:
    """Compute `lax.conv_general_dilated` of 64-bit integers of one dtype.

    dimension_numbers: where batch and features (features out and in), then the spatial dimensions, stand in `left`,
    `right` and the result. A kernel of more than _TERMS places is taken in parts.
    """
    of_left, of_right, of_result = dimension_numbers
    images = left.transpose(*of_left).astype(jnp.uint64)
    kernels = right.transpose(*of_right).astype(jnp.uint64)
    places = max(math.prod(kernels.shape[3:]), 1)
    height = max(min(kernels.shape[2], _TERMS // places), 1) if kernels.ndim > 2 else 1
    depth = max(_TERMS // (height * places), 1)

    def part(first_row: int, first_channel: int) -> Array:
        of_group = images.reshape(images.shape[0], groups, -1, *images.shape[2:])
        some = of_group[:, :, first_channel : first_channel + depth]
        kernel = kernels[:, first_channel : first_channel + depth]
        pads = list(padding)
        if kernels.ndim > 2:
            kernel = kernel[:, :, first_row : first_row + height]
            rows_after = kernels.shape[2] - first_row - kernel.shape[2]
            low, high = padding[0]
            pads[0] = (low - first_row * right_dilation[0], high - rows_after * right_dilation[0])
        some = some.reshape(images.shape[0], -1, *images.shape[2:])
        convolve = partial(
            _convolution_of_bytes,
            right=kernel,
            strides=strides,
            padding=pads,
            left_dilation=left_dilation,
            right_dilation=right_dilation,
            groups=groups,
        )
        result = jax.eval_shape(convolve, some)
        at_once = max(_BLOCK // max(8 * math.prod(result.shape[1:]), 1), 1)
        if at_once >= some.shape[0]:
            return convolve(some)
        blocks = jnp.pad(some, ((0, -some.shape[0] % at_once), *[(0, 0)] * (some.ndim - 1)))
        blocks = blocks.reshape(-1, at_once, *some.shape[1:])
        return lax.map(convolve, blocks).reshape(-1, *result.shape[1:])[: some.shape[0]]

    rows = range(0, kernels.shape[2], height) if kernels.ndim > 2 else range(1)
    total = _added(part(*first) for first in itertools.product(rows, range(0, kernels.shape[1], depth)))
    back = [list(of_result).index(d) for d in range(len(of_result))]
    return total.transpose(*back).astype(left.dtype)
