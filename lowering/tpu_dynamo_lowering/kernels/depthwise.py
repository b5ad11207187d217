"""Convolutions of each channel by itself, as sums of shifted products, which a TPU's vector unit fuses."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from .dtypes import wide

# The most elements of a kernel, by its dimensions: of more libtpu's own convolution takes less.
_MOST = {1: 32, 2: 9}


def suits_shifts(input: Array, weight: Array, stride: Sequence[int], groups: int) -> bool:
    """Tell whether a TPU adds up shifted products faster than it convolves.

    input: [batch, channels, *spatial]; weight: [out, channels / groups, *kernel]. The matrix unit gets one row of each
    channel: four elements of 2,304 channels take libtpu's convolution 4.5 times as long with all around it, 3 x 3 of
    96 channels 1.5 times. With a stride the shifts are gathers.
    """
    alone = groups == input.shape[1] == weight.shape[0] and groups > 1
    short = math.prod(weight.shape[2:]) <= _MOST.get(weight.ndim - 2, 0)
    return alone and short and set(stride) == {1} and jnp.issubdtype(input.dtype, jnp.floating) and input.size > 0


def add_shifts(
    input: Array,
    weight: Array,
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    result_dtype: Any = None,
) -> Array:
    """Convolve [batch, channels, *spatial] with [channels, 1, *kernel], without a stride; half precision in float32.

    padding: what is added before and after each spatial dimension, less than zero for what is cut off.
    """
    rank, kernel = weight.ndim - 2, weight.shape[2:]
    reaches = [apart * (size - 1) for apart, size in zip(dilation, kernel, strict=True)]
    total: Any = 0.0
    for at in itertools.product(*map(range, kernel)):
        # Each shift from the input itself: slices of a padded one are tensors that libtpu writes.
        starts = [apart * step for apart, step in zip(dilation, at, strict=True)]
        edges = [
            (low - start, high - reach + start, 0)
            for (low, high), start, reach in zip(padding, starts, reaches, strict=True)
        ]
        shifted = wide(lax.pad(input, jnp.zeros((), input.dtype), [(0, 0, 0), (0, 0, 0), *edges]))
        total = total + shifted * wide(weight[(slice(None), 0, *at)]).reshape(-1, *(1,) * rank)
    return total.astype(input.dtype if result_dtype is None else result_dtype)


def input_gradient(grad_output: Array, weight: Array, padding: Sequence[int], dilation: Sequence[int]) -> Array:
    """Return the gradient of what `add_shifts` convolves: the same with the kernel reversed."""
    reaches = [apart * (size - 1) for apart, size in zip(dilation, weight.shape[2:], strict=True)]
    around = [(reach - pad, reach - pad) for reach, pad in zip(reaches, padding, strict=True)]
    return add_shifts(grad_output, lax.rev(weight, tuple(range(2, weight.ndim))), around, dilation)
