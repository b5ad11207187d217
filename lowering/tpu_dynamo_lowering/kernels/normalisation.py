"""Layer, group, root-mean-square and weight normalisation and their gradients; half precision goes through float32."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from ..target import ANY, Target
from .moments import moments, refined_moments, row_moments, scaled_deviations
from .reductions import wide

aten = torch.ops.aten


@kernel(aten.native_layer_norm.default)
def native_layer_norm(
    input: Array,
    normalized_shape: Sequence[int],
    weight: Array | None,
    bias: Array | None,
    eps: float,
    compiled_for: Target = ANY,
) -> tuple[Array, Array, Array]:
    """Normalise over the last dimensions; also return the mean and 1 / sqrt(variance + eps) for the gradient.

    input: [..., *normalized_shape]; weight, bias: normalized_shape; both statistics: [..., 1, ...]. compiled_for: on a
    CPU float32 is rounded as often as in eager.
    Source: ATen `native_layer_norm`.
    """
    mean, variance = row_moments(input, len(normalized_shape))
    scale = lax.rsqrt(variance + eps)
    if input.dtype == jnp.float32:
        output = scaled_deviations(input, mean, scale, jnp.zeros_like(mean), compiled_for)
    else:
        output = (wide(input) - mean) * scale
    if weight is not None:
        output = output * wide(weight)
    if bias is not None:
        output = output + wide(bias)
    return output, mean, scale


@kernel(aten.native_layer_norm_backward.default)
def native_layer_norm_backward(
    grad_out: Array,
    input: Array,
    normalized_shape: Sequence[int],
    mean: Array,
    rstd: Array,
    weight: Array | None,
    bias: Array | None,
    output_mask: Sequence[bool],
) -> tuple[Array | None, ...]:
    """Compute the gradients of layer_norm's input, weight and bias, each None where `output_mask` is False."""
    lead = input.ndim - len(normalized_shape)
    inner, outer = tuple(range(lead, input.ndim)), tuple(range(lead))
    gradient = wide(grad_out)
    normalised = (wide(input) - mean.astype(gradient.dtype)) * rstd.astype(gradient.dtype)
    scaled = gradient if weight is None else gradient * wide(weight)
    shift = jnp.mean(scaled, axis=inner, keepdims=True)
    tilt = jnp.mean(scaled * normalised, axis=inner, keepdims=True)
    grads = (
        lambda: rstd.astype(gradient.dtype) * (scaled - shift - normalised * tilt),
        lambda: jnp.sum(gradient * normalised, axis=outer),
        lambda: jnp.sum(gradient, axis=outer),
    )
    return tuple(grad() if wanted else None for grad, wanted in zip(grads, output_mask, strict=True))


@kernel(aten._fused_rms_norm.default)
def fused_rms_norm(
    input: Array, normalized_shape: Sequence[int], weight: Array | None, eps: float | None
) -> tuple[Array, Array]:
    """Divide by the root mean square over the last dimensions; also return its reciprocal for the gradient.

    input: [..., *normalized_shape]. `eps=None` means the dtype's precision. Source: ATen `_fused_rms_norm`.
    """
    value = wide(input)
    axes = tuple(range(input.ndim - len(normalized_shape), input.ndim))
    tiny = float(jnp.finfo(value.dtype).eps) if eps is None else eps
    scale = lax.rsqrt(jnp.mean(jnp.square(value), axis=axes, keepdims=True) + tiny)
    output = value * scale
    return (output if weight is None else output * wide(weight)), scale


@kernel(aten._fused_rms_norm_backward.default)
def fused_rms_norm_backward(
    grad_out: Array,
    input: Array,
    normalized_shape: Sequence[int],
    rstd: Array,
    weight: Array | None,
    output_mask: Sequence[bool],
) -> tuple[Array | None, ...]:
    """Compute the gradients of rms_norm's input and weight, each None where `output_mask` is False."""
    lead = input.ndim - len(normalized_shape)
    inner, outer = tuple(range(lead, input.ndim)), tuple(range(lead))
    gradient = wide(grad_out)
    scale = rstd.astype(gradient.dtype)
    normalised = wide(input) * scale
    scaled = gradient if weight is None else gradient * wide(weight)
    grads = (
        lambda: scale * (scaled - normalised * jnp.mean(scaled * normalised, axis=inner, keepdims=True)),
        lambda: jnp.sum(gradient * normalised, axis=outer),
    )
    return tuple(grad() if wanted else None for grad, wanted in zip(grads, output_mask, strict=True))


@kernel(aten.native_group_norm.default)
def native_group_norm(
    input: Array,
    weight: Array | None,
    bias: Array | None,
    N: int,
    C: int,
    HxW: int,
    group: int,
    eps: float,
    compiled_for: Target = ANY,
) -> tuple[Array, Array, Array]:
    """Normalise over groups of channels; also return each group's mean and 1 / sqrt(variance + eps).

    input: [N, C, ...], HxW elements a channel; weight, bias: [C]; both statistics: [N, group]. compiled_for: on a CPU
    float32 is as exact as in eager.
    Source: ATen `native_group_norm`.
    """
    if input.dtype == jnp.float32 and compiled_for.platform == "cpu" and input.size:
        return _refined_group_norm(input, weight, bias, group, eps, compiled_for)
    grouped = wide(input).reshape(N, group, C // group * HxW)
    mean, variance = moments(grouped, (2,))
    scale = lax.rsqrt(variance + eps)
    output = ((grouped - mean) * scale).reshape(N, C, *input.shape[2:])
    channels = (1, C, *(1,) * (input.ndim - 2))
    if weight is not None:
        output = output * wide(weight).reshape(channels)
    if bias is not None:
        output = output + wide(bias).reshape(channels)
    return output, mean.reshape(N, group), scale.reshape(N, group)


def _refined_group_norm(
    input: Array, weight: Array | None, bias: Array | None, group: int, eps: float, compiled_for: Target
) -> tuple[Array, Array, Array]:
    """Normalise over groups of channels, an element being rounded once; also return both statistics of each group.

    input: [N, C, ...], float32; weight, bias: [C]; both statistics: [N, group].
    """
    batch, channels = input.shape[:2]
    values = input.reshape(batch, group, channels // group, -1)
    mean, variance = refined_moments(values, (2, 3))
    scale = lax.rsqrt(variance.astype(jnp.float64) + eps)

    def by_channel(value: Array | None, default: float) -> Array:
        value = jnp.full(channels, default, input.dtype) if value is None else value
        return value.reshape(1, group, channels // group, 1)

    output = scaled_deviations(values, mean, scale * by_channel(weight, 1), by_channel(bias, 0), compiled_for)
    return output.reshape(input.shape), mean.reshape(batch, group), scale.reshape(batch, group)


@kernel(aten.native_group_norm_backward.default)
def native_group_norm_backward(
    grad_out: Array,
    input: Array,
    mean: Array,
    rstd: Array,
    weight: Array | None,
    N: int,
    C: int,
    HxW: int,
    group: int,
    output_mask: Sequence[bool],
) -> tuple[Array | None, ...]:
    """Compute the gradients of group_norm's input, weight and bias, each None where `output_mask` is False."""
    gradient = wide(grad_out).reshape(N, C, HxW)
    dtype = gradient.dtype
    moments = [m.astype(dtype).reshape(N, group, 1) for m in (mean, rstd)]
    normalised = ((wide(input).reshape(N, group, C // group * HxW) - moments[0]) * moments[1]).reshape(N, C, HxW)
    scaled = gradient if weight is None else gradient * wide(weight).reshape(1, C, 1)

    def input_gradient() -> Array:
        by_group, inner = (x.reshape(N, group, C // group * HxW) for x in (scaled, normalised))
        shift = jnp.mean(by_group, axis=2, keepdims=True)
        tilt = jnp.mean(by_group * inner, axis=2, keepdims=True)
        return (moments[1] * (by_group - shift - inner * tilt)).reshape(input.shape)

    grads = (
        input_gradient,
        lambda: jnp.sum(gradient * normalised, axis=(0, 2)),
        lambda: jnp.sum(gradient, axis=(0, 2)),
    )
    return tuple(grad() if wanted else None for grad, wanted in zip(grads, output_mask, strict=True))


def _norm_except(value: Array, dim: int) -> Array:
    axes = tuple(a for a in range(value.ndim) if a != dim % value.ndim)
    return jnp.sqrt(jnp.sum(jnp.square(wide(value)), axis=axes, keepdims=True))


@kernel(aten._weight_norm_interface.default)
def weight_norm_interface(v: Array, g: Array, dim: int = 0) -> tuple[Array, Array]:
    """Return v * g / norm(v), and norm(v), the norms being taken over all dimensions but `dim`."""
    norms = _norm_except(v, dim)
    return wide(v) * (wide(g) / norms), norms


@kernel(aten._weight_norm_interface_backward.default)
def weight_norm_interface_backward(
    grad_w: Array, saved_v: Array, saved_g: Array, saved_norms: Array, dim: int
) -> tuple[Array, Array]:
    """Compute the gradients of weight_norm's `v` and `g`."""
    axes = tuple(a for a in range(saved_v.ndim) if a != dim % saved_v.ndim)
    gradient, v, norms = wide(grad_w), wide(saved_v), saved_norms.astype(wide(saved_v).dtype)
    along = jnp.sum(gradient * v, axis=axes, keepdims=True) / norms
    return wide(saved_g) / norms * (gradient - v * along / norms), along
