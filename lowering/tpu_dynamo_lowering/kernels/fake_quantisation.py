"""Fake quantisation: values rounded to a grid and kept as floats, with grids that are given, learnt or observed."""

from __future__ import annotations

import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from .casts import cast
from .dtypes import wide

aten = torch.ops.aten

# Below it fbgemm's and QNNPACK's parameters, and so the observer's, have no smaller scale.
_SMALLEST_SCALE = 6.1e-5


def _fake_quantised(
    value: Array, scale: Array, zero_point: Array, quant_min: int, quant_max: int
) -> tuple[Array, Array]:
    """Round values to the grid of a quantisation and clamp them to it; also return which were inside."""
    x, scale = wide(value), wide(scale)
    steps = x * (1 / scale)
    if jnp.issubdtype(zero_point.dtype, jnp.floating):
        place = jnp.round(steps + zero_point.astype(x.dtype))
    else:
        place = jnp.round(steps) + zero_point.astype(x.dtype)
    held = (place >= quant_min) & (place <= quant_max)
    return (jnp.clip(place, quant_min, quant_max) - zero_point.astype(x.dtype)) * scale, held


@kernel(aten.fake_quantize_per_tensor_affine_cachemask.default)
def fake_quantize_per_tensor_affine(
    self: Array, scale: float, zero_point: int, quant_min: int, quant_max: int
) -> tuple[Array, Array]:
    """Round values to a quantisation's grid and clamp them to it; also return which were inside, for the gradient.

    The grid is (q - zero_point) * scale for q from quant_min to quant_max.
    """
    exact = jnp.asarray(scale, jnp.float32), jnp.asarray(zero_point, jnp.int64)
    return _fake_quantised(self, *exact, quant_min, quant_max)


@kernel(aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams.default)
def fake_quantize_per_tensor_affine_tensors(
    self: Array, scale: Array, zero_point: Array, fake_quant_enabled: Array, quant_min: int, quant_max: int
) -> tuple[Array, Array]:
    """Round values to the grid of a scale and zero point in tensors, unless `fake_quant_enabled` is not 1.

    Also returns which values were inside the grid; all of them if disabled.
    """
    enabled = fake_quant_enabled.reshape(-1)[0] == 1
    rounded, held = _fake_quantised(self, scale.reshape(()), zero_point.reshape(()), quant_min, quant_max)
    return jnp.where(enabled, rounded, self), held | ~enabled


@kernel(aten.fake_quantize_per_channel_affine_cachemask.default)
def fake_quantize_per_channel_affine(
    self: Array, scale: Array, zero_point: Array, axis: int, quant_min: int, quant_max: int
) -> tuple[Array, Array]:
    """Round values to the grid of their channel along `axis`; also return which were inside.

    scale, zero_point: one for each channel.
    """
    channel = [1] * self.ndim
    channel[axis] = -1
    return _fake_quantised(self, scale.reshape(channel), zero_point.reshape(channel), quant_min, quant_max)


@kernel(aten._fake_quantize_learnable_per_tensor_affine.default)
def fake_quantize_learnable_per_tensor(
    self: Array, scale: Array, zero_point: Array, quant_min: int, quant_max: int, grad_factor: float = 1.0
) -> Array:
    """Round values to the grid of a learnt scale and zero point, and clamp them to it."""
    exact = cast(jnp.clip(jnp.round(zero_point.reshape(-1)[0]), quant_min, quant_max), torch.int64)
    return _fake_quantised(self, scale.reshape(-1)[0], exact, quant_min, quant_max)[0]


def _channels(values: Array, rank: int, axis: int) -> Array:
    shape = [1] * rank
    shape[axis] = -1
    return values.reshape(shape)


@kernel(aten._fake_quantize_learnable_per_channel_affine.default)
def fake_quantize_learnable_per_channel(
    self: Array, scale: Array, zero_point: Array, axis: int, quant_min: int, quant_max: int, grad_factor: float = 1.0
) -> Array:
    """Round values to the grid of their channel along `axis`, whose scale and zero point are learnt."""
    exact = jnp.clip(jnp.round(zero_point), quant_min, quant_max).astype(jnp.int32)
    grid = _channels(scale, self.ndim, axis), _channels(exact, self.ndim, axis)
    return _fake_quantised(self, *grid, quant_min, quant_max)[0]


def _learnt_gradients(
    grad: Array, x: Array, scale: Array, zero_point: Array, quant_min: int, quant_max: int, grad_factor: float
) -> tuple[Array, Array, Array]:
    """Compute the gradients of the values, and each value's share of those of its scale and zero point.

    Source: `_fake_quantize_grad_learnable_tensor_kernel_cpu` in aten/src/ATen/native/quantized/cpu.
    """
    grad, x = wide(grad), wide(x)
    inverse = 1 / scale
    place = jnp.round(zero_point + x * inverse)
    below, above = place < quant_min, place > quant_max
    outside = below | above
    fake = (jnp.clip(place, quant_min, quant_max) - zero_point) * scale
    end = jnp.where(below, quant_min, quant_max) - zero_point
    of_scale = grad * jnp.where(outside, end, (fake - x) * inverse) * grad_factor
    of_zero_point = jnp.where(outside, -grad * scale * grad_factor, 0)
    return jnp.where(outside, 0, grad), of_scale, of_zero_point


@kernel(aten._fake_quantize_learnable_per_tensor_affine_backward.default)
def fake_quantize_learnable_per_tensor_backward(
    grad: Array, self: Array, scale: Array, zero_point: Array, quant_min: int, quant_max: int, grad_factor: float = 1.0
) -> tuple[Array, Array, Array]:
    """Compute the gradients of the values, the scale and the zero point."""
    # A half is added and the rest cut off, where the values were rounded by the nearest zero point.
    exact = jnp.trunc(jnp.clip(zero_point.reshape(-1)[0] + 0.5, quant_min, quant_max))
    one = scale.reshape(-1)[0]
    dx, of_scale, of_zero_point = _learnt_gradients(grad, self, one, exact, quant_min, quant_max, grad_factor)
    return dx, jnp.sum(of_scale).reshape(1), jnp.sum(of_zero_point).reshape(1)


@kernel(aten._fake_quantize_learnable_per_channel_affine_backward.default)
def fake_quantize_learnable_per_channel_backward(
    grad: Array,
    self: Array,
    scale: Array,
    zero_point: Array,
    axis: int,
    quant_min: int,
    quant_max: int,
    grad_factor: float = 1.0,
) -> tuple[Array, Array, Array]:
    """Compute the gradients of the values, and of each channel's scale and zero point."""
    exact = jnp.clip(jnp.round(zero_point), quant_min, quant_max).astype(jnp.float32)
    grid = _channels(scale, self.ndim, axis), _channels(exact, self.ndim, axis)
    dx, of_scale, of_zero_point = _learnt_gradients(grad, self, *grid, quant_min, quant_max, grad_factor)
    others = tuple(dim for dim in range(self.ndim) if dim != axis % self.ndim)
    return dx, jnp.sum(of_scale, others), jnp.sum(of_zero_point, others)


@kernel(aten._fused_moving_avg_obs_fq_helper_functional.default)
def observe_and_fake_quantise(
    self: Array,
    observer_on: Array,
    fake_quant_on: Array,
    running_min: Array,
    running_max: Array,
    scale: Array,
    zero_point: Array,
    averaging_const: float,
    quant_min: int,
    quant_max: int,
    ch_axis: int,
    per_row_fake_quant: bool = False,
    symmetric_quant: bool = False,
) -> tuple[Array, ...]:
    """Average the ends of values over calls, choose a grid between them, and round the values to it.

    observer_on, fake_quant_on: one number each; 0 leaves out the average, or the grid and the rounding. Returns the
    values, which of them were inside, and the new ends, scale and zero point; of each row if per_row_fake_quant.
    Source: aten/src/ATen/native/quantized/cpu/fused_obs_fake_quant.cpp.
    """
    if per_row_fake_quant and ch_axis != 0:
        raise NotImplementedError("fake quantisation by another channel than the first; eager PyTorch refuses it too")
    channels = self.shape[0] if per_row_fake_quant else 1
    if self.size == 0 or running_min.size != channels:
        raise NotImplementedError(
            f"an observer of {running_min.size} channels for a tensor {list(self.shape)}: call the model once in eager"
        )
    rows = wide(self).reshape(channels, -1)
    observing, rounding = (switch.reshape(-1)[0] != 0 for switch in (observer_on, fake_quant_on))
    ends = []
    for running, now in ((running_min, jnp.min(rows, 1)), (running_max, jnp.max(rows, 1))):
        now = now.reshape(running.shape).astype(running.dtype)
        average = jnp.where(jnp.isinf(running), now, running + jnp.float32(averaging_const) * (now - running))
        ends.append(jnp.where(observing, average, running))
    least, most = (end.reshape(-1) for end in ends)
    grid = _observed_grid(least, most, quant_min, quant_max, symmetric_quant)
    scale, zero_point = (
        jnp.where(rounding, new.astype(old.dtype).reshape(old.shape), old)
        for new, old in zip(grid, (scale, zero_point), strict=True)
    )
    column = (channels,) + (1,) * (self.ndim - 1) if per_row_fake_quant else ()
    value, held = _fake_quantised(self, scale.reshape(column), zero_point.reshape(column), quant_min, quant_max)
    return jnp.where(rounding, value, self), held | ~rounding, *ends, scale, zero_point


def _observed_grid(least: Array, most: Array, quant_min: int, quant_max: int, symmetric: bool) -> tuple[Array, Array]:
    """Choose scales and zero points for ends, float32[n], in float64.

    Source: `ChooseQuantizationParams` in fbgemm's QuantUtils.cc, which eager PyTorch calls.
    """
    span = quant_max - quant_min
    low, high = least.astype(jnp.float64), most.astype(jnp.float64)
    around = (low < 0) & (high > 0) & symmetric
    least_step, most_step = -(span // 2 + 1), span // 2
    largest = jnp.maximum(jnp.abs(least / least_step), jnp.abs(most / most_step)).astype(jnp.float64)
    low, high = (
        jnp.where(around, (largest * step).astype(jnp.float32).astype(jnp.float64), end)
        for step, end in ((least_step, low), (most_step, high))
    )
    low, high = jnp.minimum(low, 0), jnp.maximum(high, 0)
    # XLA would multiply by the reciprocal of a constant, and zero points in the middle of two would fall otherwise.
    scale = ((high - low) / lax.optimization_barrier(jnp.float64(span))).astype(jnp.float32)
    scale = jnp.where((scale == 0) | jnp.isinf(1 / scale), jnp.float32(0.1), scale)
    # A scale that is raised takes the ends with it.
    raised = jnp.maximum(scale, jnp.float32(_SMALLEST_SCALE))
    low, high = ((end.astype(jnp.float32) * (raised / scale)).astype(jnp.float64) for end in (low, high))
    steps_low, steps_high = (end / raised.astype(jnp.float64) for end in (low, high))
    nearer = abs(quant_min) + jnp.abs(steps_low) < abs(quant_max) + jnp.abs(steps_high)
    zero_point = jnp.where(nearer, quant_min - steps_low, quant_max - steps_high)
    zero_point = jnp.where(around, (quant_min + quant_max) / 2, zero_point)
    return raised, jnp.round(jnp.clip(zero_point, quant_min, quant_max))
