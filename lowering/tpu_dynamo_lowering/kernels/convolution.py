"""Convolutions of every rank, transposed, grouped and dilated, and their gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from ..target import ANY, Target
from .call import static
from .depthwise import add_shifts, input_gradient, suits_shifts
from .indexing import accumulator
from .strided_windows import convolve_blocks, suits_blocks

aten = torch.ops.aten

_SPATIAL = "DHW"

# A TPU's vector registers have so many elements in a row.
_LANES = 128


def suits_reordering(input: Array, weight: Array, groups: int) -> bool:
    """Return True if a convolution is dear beside a copy of its weight, which it would read in another order.

    input: [batch, channels, *spatial]; weight: [out, channels, *kernel].
    """
    several = math.prod(weight.shape[2:]) > 1
    return several and groups == 1 and weight.shape[1] % _LANES != 0 and input.size >= 8 * weight.size


def _kernel_first(weight: Array) -> Array:
    """Return [out, in, *kernel] as [*kernel, in, out], copied to that order in memory.

    Of channels that do not fill registers, libtpu's convolutions read a weight in PyTorch's order for up to half as
    long again. XLA would keep that order and rename the dimensions; a matrix between two reshapes it has to write.
    """
    out, channels, *kernel = weight.shape
    moved = weight.transpose(*range(2, weight.ndim), 1, 0)
    return lax.optimization_barrier(moved.reshape(-1, out)).reshape(*kernel, channels, out)


def convolved(
    input: Array,
    weight: Array,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    result_dtype: Any = None,
    kernel_first: bool = False,
) -> Array:
    """Convolve without a bias: one convolution of XLA.

    input: [batch, channels, *spatial]. weight: [out, in / groups, *kernel]; [in, out / groups, *kernel] if transposed.
    A transposed convolution dilates its input by the stride and reverses the kernel. XLA accumulates half precision in
    float32 whatever the dtype of the result. kernel_first: bring the weight to the order [*kernel, in, out] before; not
    for transposed ones.
    """
    rank = input.ndim - 2
    stride, padding = static(stride, rank), static(padding, rank)
    dilation, output_padding = static(dilation, rank), static(output_padding, rank)
    spatial = _SPATIAL[-rank:]
    layout = (f"NC{spatial}", f"OI{spatial}", f"NC{spatial}")
    if not transposed:
        if kernel_first:
            weight, layout = _kernel_first(weight), (f"NC{spatial}", f"{spatial}IO", f"NC{spatial}")
        return lax.conv_general_dilated(
            input,
            weight,
            window_strides=stride,
            padding=[(p, p) for p in padding],
            rhs_dilation=dilation,
            dimension_numbers=layout,
            feature_group_count=groups,
            preferred_element_type=result_dtype,
        )
    given, kernel_size = weight.shape[0], weight.shape[2:]
    weight = weight.reshape(groups, given // groups, *weight.shape[1:])
    weight = jnp.swapaxes(weight, 1, 2).reshape(-1, given // groups, *kernel_size)
    reach = [d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True)]
    return lax.conv_general_dilated(
        input,
        lax.rev(weight, tuple(range(2, rank + 2))),
        window_strides=(1,) * rank,
        padding=[(r - p, r - p + o) for r, p, o in zip(reach, padding, output_padding, strict=True)],
        lhs_dilation=stride,
        rhs_dilation=dilation,
        dimension_numbers=layout,
        feature_group_count=groups,
        preferred_element_type=result_dtype,
    )


@kernel(aten.convolution.default, aten.convolution_overrideable.default)
def convolution(
    input: Array,
    weight: Array,
    bias: Array | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    compiled_for: Target = ANY,
) -> Array:
    """Convolve, or convolve transposed, in one to three spatial dimensions and add the bias: one convolution of XLA.

    input: [batch, channels, *spatial]; weight: [out, in / groups, *kernel], [in, out / groups, *kernel] if transposed.
    The bias is added before the result is rounded to half precision. compiled_for: on a TPU few channels are convolved
    with a stride in blocks of pixels, channels by themselves are shifted and added, and a small weight is read in the
    order of a TPU. Source: ATen `convolution`.
    """
    dtype = None if bias is None else accumulator(input.dtype)
    steps, around, apart = (static(each, input.ndim - 2) for each in (stride, padding, dilation))
    of_a_tpu = compiled_for.platform == "tpu" and not transposed
    # Not the gradients: libtpu takes minutes to compile that of the weight in blocks.
    if of_a_tpu and suits_blocks(input, weight, steps, apart, groups):
        result = convolve_blocks(input, weight, steps, around, dtype)
    elif of_a_tpu and suits_shifts(input, weight, steps, groups):
        result = add_shifts(input, weight, [(pad, pad) for pad in around], apart, dtype)
    else:
        reordered = of_a_tpu and suits_reordering(input, weight, groups)
        result = convolved(
            input, weight, stride, padding, dilation, transposed, output_padding, groups, dtype, reordered
        )
    return result if bias is None else result + bias.astype(result.dtype).reshape(-1, *(1,) * (result.ndim - 2))


def _bias_gradient(grad_output: Array) -> Array:
    others = tuple(d for d in range(grad_output.ndim) if d != 1)
    return jnp.sum(grad_output, others, dtype=accumulator(grad_output.dtype))


@kernel(aten.convolution_backward.default)
def convolution_backward(
    grad_output: Array,
    input: Array,
    weight: Array,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
    compiled_for: Target = ANY,
) -> list[Array]:
    """Compute the gradients of a convolution's input, weight and bias: one convolution for each of the first two.

    output_mask: which of the three are wanted; the result holds only those. A convolution is linear in each operand, so
    JAX transposes it; for complex numbers the other operand is conjugated first. compiled_for: on a TPU the gradient of
    channels by themselves is shifted and added. Source: ATen `convolution_backward`.
    """
    steps, around, apart = (static(each, input.ndim - 2) for each in (stride, padding, dilation))

    def forward(x: Array, w: Array) -> Array:
        return convolved(x, w, stride, padding, dilation, transposed, output_padding, groups)

    grads = []
    if output_mask[0]:
        if compiled_for.platform == "tpu" and not transposed and suits_shifts(input, weight, steps, groups):
            grad = input_gradient(grad_output, weight, around, apart)
        else:
            (grad,) = jax.linear_transpose(lambda x: forward(x, jnp.conj(weight)), input)(grad_output)
        grads.append(grad)
    if output_mask[1]:
        (grad,) = jax.linear_transpose(lambda w: forward(jnp.conj(input), w), weight)(grad_output)
        grads.append(grad)
    if output_mask[2]:
        grads.append(_bias_gradient(grad_output))
    return grads


def _convolved_tbc(input: Array, weight: Array, pad: int) -> Array:
    return lax.conv_general_dilated(input, weight, (1,), [(pad, pad)], dimension_numbers=("WNC", "WIO", "WNC"))


@kernel(aten.conv_tbc.default)
def conv_tbc(self: Array, weight: Array, bias: Array, pad: int = 0) -> Array:
    """Convolve [time, batch, channels] along time with a weight [width, in, out] and add the bias."""
    return _convolved_tbc(self, weight, pad) + bias


@kernel(aten.conv_tbc_backward.default)
def conv_tbc_backward(self: Array, input: Array, weight: Array, bias: Array, pad: int) -> list[Array]:
    """Compute the gradients of conv_tbc's input, weight and bias; `self` is the result's gradient."""
    (grad_input,) = jax.linear_transpose(lambda x: _convolved_tbc(x, weight, pad), input)(self)
    (grad_weight,) = jax.linear_transpose(lambda w: _convolved_tbc(input, w, pad), weight)(self)
    return [grad_input, grad_weight, jnp.sum(self, (0, 1), dtype=accumulator(self.dtype))]
