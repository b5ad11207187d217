"""Convolutions with a stride over few channels, as convolutions without one over blocks of pixels as channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

# Rows of a TPU's matrix unit, of which a convolution fills one for each channel; and of its vector registers, where
# blocks of more channels gain nothing.
_ROWS, _SUBLANES = 128, 8


def suits_blocks(input: Array, weight: Array, stride: Sequence[int], dilation: Sequence[int], groups: int) -> bool:
    """Tell whether a convolution leaves so much of a TPU's matrix unit empty that blocks of pixels fit beside it.

    input: [batch, channels, *spatial]; weight: [out, channels, *kernel]. The kernel must reach over several blocks:
    where it is one block, libtpu makes a product of it by itself.
    """
    channels = input.shape[1]
    few = channels <= _SUBLANES and channels * math.prod(stride) <= _ROWS
    reaches = all(size > step for size, step in zip(weight.shape[2:], stride, strict=True))
    return few and groups == 1 and set(dilation) == {1} and max(stride) > 1 and reaches and input.size > 0


def convolve_blocks(
    input: Array, weight: Array, stride: Sequence[int], padding: Sequence[int], result_dtype: Any = None
) -> Array:
    """Convolve [batch, channels, *spatial] with [out, channels, *kernel] in blocks of as many pixels as the stride has.

    The pixels of a block become channels, of the input and of the kernel, which is padded with zeros to whole blocks:
    ResNet's 7 x 7 pixels of 3 channels are 4 x 4 blocks of 12. The sums are the same, but that a pixel that is not
    finite also makes nan of results whose kernels end beside it, within a block.
    """
    rank, spatial = len(stride), input.shape[2:]
    before = [-(-pad // step) for pad, step in zip(padding, stride, strict=True)]
    lead = [blocks * step - pad for blocks, step, pad in zip(before, stride, padding, strict=True)]
    kernel = _blocks(weight, lead, stride)
    blocks = _blocks(input, [0] * rank, stride)
    results = [
        (size + 2 * pad - reach) // step + 1
        for size, pad, reach, step in zip(spatial, padding, weight.shape[2:], stride, strict=True)
    ]
    pads = [
        (first, result + reach - 1 - first - size)
        for first, result, reach, size in zip(before, results, kernel.shape[2:], blocks.shape[2:], strict=True)
    ]
    letters = "DHW"[-rank:]
    layout = (f"NC{letters}", f"OI{letters}", f"NC{letters}")
    return lax.conv_general_dilated(
        blocks, kernel, (1,) * rank, pads, dimension_numbers=layout, preferred_element_type=result_dtype
    )


def _blocks(value: Array, lead: Sequence[int], stride: Sequence[int]) -> Array:
    """Return [first, channels, *spatial], padded to whole blocks, as [first, stride * channels, *blocks]."""
    rank = len(stride)
    counts = [-(-(size + first) // step) for size, first, step in zip(value.shape[2:], lead, stride, strict=True)]
    pads = [
        (first, count * step - first - size)
        for first, count, step, size in zip(lead, counts, stride, value.shape[2:], strict=True)
    ]
    value = jnp.pad(value, ((0, 0), (0, 0), *pads))
    pairs = [extent for pair in zip(counts, stride, strict=True) for extent in pair]
    within = [3 + 2 * d for d in range(rank)]
    moved = value.reshape(*value.shape[:2], *pairs).transpose(0, *within, 1, *(2 + 2 * d for d in range(rank)))
    return moved.reshape(value.shape[0], -1, *counts)
