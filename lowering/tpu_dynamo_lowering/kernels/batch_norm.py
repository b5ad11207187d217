"""Batch normalisation in training and in use, forward and backward; half precision is computed in float32."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from ..target import ANY, Target
from .moments import moments, refined_moments, scaled_deviations
from .reductions import wide

aten = torch.ops.aten


def _per_channel(value: Array, rank: int) -> Array:
    return wide(value).reshape(1, -1, *(1,) * (rank - 2))


def _batch_axes(rank: int) -> tuple[int, ...]:
    return (0, *range(2, rank))


def _normalised_batch(
    input: Array, weight: Array | None, bias: Array | None, mean: Array, scale: Array, compiled_for: Target
) -> Array:
    """Return (input - mean) * scale * weight + bias; all but the input by channel.

    mean, scale: in float64 for float32 on a CPU.
    """
    rank = input.ndim
    factor = scale if weight is None else scale * wide(weight)
    bias = jnp.zeros_like(factor) if bias is None else bias
    mean, factor, bias = (_per_channel(each, rank) for each in (mean, factor, bias))
    if input.dtype != wide(input).dtype:
        return scaled_deviations(wide(input), mean, factor, bias, compiled_for, _product_and_sum)
    return scaled_deviations(input, mean, factor, bias, compiled_for)


def _product_and_sum(value: Array, mean: Array, factor: Array, bias: Array) -> Array:
    """Return (value - mean) * factor + bias, for half precision, as value * factor and a sum.

    They fuse into a convolution better than a difference before them, and err less than half precision itself.
    """
    return value * factor + (bias - mean * factor)


def _counts_in_float64(input: Array, compiled_for: Target) -> bool:
    """Return True where numbers by channel are float64, as in eager; a TPU computes that slowly."""
    return input.dtype == jnp.float32 and compiled_for.platform == "cpu"


def _shifted_moments(input: Array, shift: Array) -> tuple[Array, Array]:
    """Return each channel's mean and variance in one pass: those of what is left when a number near the mean is taken.

    input: [batch, channels, ...], in half precision; shift: [channels]. As exact as eager with a shift up to 300
    deviations from the mean. With one 1,000 away, as in a first step whose running means are zero, the error in
    bfloat16 is some hundredths.
    """
    axes = _batch_axes(input.ndim)
    rest = wide(input) - _per_channel(shift, input.ndim)
    mean = jnp.mean(rest, axis=axes)
    variance = jnp.mean(jnp.square(rest), axis=axes) - jnp.square(mean)
    return mean + wide(shift), jnp.maximum(variance, 0)


def _train_batch(
    input: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    compiled_for: Target,
    shift: Array | None = None,
) -> tuple[Array, Array, Array, Array]:
    """Return the normalised input and the batch's mean, 1 / sqrt(variance + eps) and unbiased variance by channel.

    shift: numbers near the means, for one pass over half precision instead of two.
    """
    axes = _batch_axes(input.ndim)
    if shift is not None and input.dtype != wide(input).dtype and input.size:
        mean, variance = _shifted_moments(input, shift)
    elif input.dtype != jnp.float32 or not input.size:
        mean, variance = moments(wide(input), axes)
    elif _counts_in_float64(input, compiled_for):
        mean, variance = moments(input.astype(jnp.float64), axes)  # as in eager
    else:
        mean, variance = refined_moments(input, axes)
    mean, variance = mean.reshape(-1), variance.reshape(-1)
    scale = lax.rsqrt(variance + eps)
    count = math.prod(input.shape[a] for a in axes)
    unbiased = variance * (count / max(count - 1, 1))
    return _normalised_batch(input, weight, bias, mean, scale, compiled_for), mean, scale, unbiased


def _updated(running: Array, batch: Array, momentum: float) -> Array:
    return (1 - momentum) * running + momentum * batch.astype(running.dtype)


@kernel(aten._native_batch_norm_legit_no_training.default)
def batch_norm_no_training(
    input: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array,
    running_var: Array,
    momentum: float,
    eps: float,
    compiled_for: Target = ANY,
) -> tuple[Array, Array, Array]:
    """Normalise each channel by the running statistics; also return their mean and 1 / sqrt(variance + eps).

    input: [batch, channels, ...]; statistics, weight and bias: [channels]. compiled_for: on a CPU numbers by channel
    are float64.
    """
    in_float64 = _counts_in_float64(input, compiled_for)
    mean, variance = (each.astype(jnp.float64) if in_float64 else wide(each) for each in (running_mean, running_var))
    scale = lax.rsqrt(variance + eps)
    return _normalised_batch(input, weight, bias, mean, scale, compiled_for), mean, scale


@kernel(aten._native_batch_norm_legit_functional.default)
def batch_norm_functional(
    input: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array,
    running_var: Array,
    training: bool,
    momentum: float,
    eps: float,
    compiled_for: Target = ANY,
) -> tuple[Array, Array, Array, Array, Array]:
    """Normalise each channel; return the output, the statistics for the gradient and the new running statistics.

    input: [batch, channels, ...]; all others: [channels]. In training the batch's statistics are used, and mixed into
    the running ones by `momentum`; else the running ones, which are returned unchanged. compiled_for: a TPU takes the
    statistics of half precision in one pass, which libtpu fuses into the convolution before; the running means, from
    which it counts, keep the digits. Source: ATen `_native_batch_norm_legit_functional`.
    """
    if not training:
        output, mean, scale = batch_norm_no_training(
            input, weight, bias, running_mean, running_var, momentum, eps, compiled_for
        )
        return output, mean, scale, running_mean, running_var
    of_a_tpu = compiled_for.platform == "tpu"
    # What was lost to nan or infinity before is no part of this batch's output.
    shift = jnp.where(jnp.isfinite(running_mean), running_mean, 0) if of_a_tpu else None
    output, mean, scale, unbiased = _train_batch(input, weight, bias, eps, compiled_for, shift)
    return (
        output,
        mean,
        scale,
        _updated(running_mean, mean, momentum),
        _updated(running_var, unbiased, momentum),
    )


@kernel(aten._native_batch_norm_legit.no_stats)
def batch_norm_no_stats(
    input: Array,
    weight: Array | None,
    bias: Array | None,
    training: bool,
    momentum: float,
    eps: float,
    compiled_for: Target = ANY,
) -> tuple[Array, Array, Array]:
    """Normalise each channel by the batch's statistics; also return their mean and 1 / sqrt(variance + eps)."""
    return _train_batch(input, weight, bias, eps, compiled_for)[:3]


@kernel(aten.native_batch_norm.default)
def native_batch_norm(
    input: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    training: bool,
    momentum: float,
    eps: float,
    compiled_for: Target = ANY,
) -> tuple[Array, Array, Array]:
    """Normalise each channel by the batch's statistics in training, else by the running ones, which stay unchanged.

    Also returns the mean and 1 / sqrt(variance + eps) that it used, [channels] each.
    """
    if training:
        return _train_batch(input, weight, bias, eps, compiled_for)[:3]
    assert running_mean is not None
    assert running_var is not None
    return batch_norm_no_training(input, weight, bias, running_mean, running_var, momentum, eps, compiled_for)


@kernel(aten.native_batch_norm_backward.default)
def native_batch_norm_backward(
    grad_out: Array,
    input: Array,
    weight: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    save_mean: Array | None,
    save_invstd: Array | None,
    train: bool,
    eps: float,
    output_mask: Sequence[bool],
) -> tuple[Array | None, ...]:
    """Compute the gradients of batch_norm's input, weight and bias, each None where `output_mask` is False."""
    rank, axes = input.ndim, _batch_axes(input.ndim)
    gradient = wide(grad_out)
    if train:
        assert save_mean is not None
        assert save_invstd is not None
        mean, scale = wide(save_mean), wide(save_invstd)
    else:
        assert running_mean is not None
        assert running_var is not None
        mean, scale = wide(running_mean), lax.rsqrt(wide(running_var) + eps)
    normalised = (wide(input) - _per_channel(mean, rank)) * _per_channel(scale, rank)
    factor = _per_channel(scale if weight is None else scale * wide(weight), rank)

    def input_gradient() -> Array:
        if not train:
            return gradient * factor
        shift = jnp.mean(gradient, axis=axes, keepdims=True)
        tilt = jnp.mean(gradient * normalised, axis=axes, keepdims=True)
        return factor * (gradient - shift - normalised * tilt)

    grads = (
        input_gradient,
        lambda: jnp.sum(gradient * normalised, axis=axes),
        lambda: jnp.sum(gradient, axis=axes),
    )
    return tuple(grad() if wanted else None for grad, wanted in zip(grads, output_mask, strict=True))
