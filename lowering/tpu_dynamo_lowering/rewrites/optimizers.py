"""Whole steps of optimizers, and the scaling of gradients, as arithmetic on each tensor of their lists.

Numbers may be tensors without dimensions, so that an eager step with another learning rate is the same program.
Parameters are updated in the dtype that they are computed in, at least float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..table import rewrites

aten = torch.ops.aten

Number = Any


def _scalar(number: Number) -> Number:
    return number.reshape(()) if isinstance(number, Tensor) else number  # a learning rate may be a vector of one


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _unscaled(gradient: Tensor, grad_scale: Tensor | None) -> Tensor:
    return _wide(gradient) if grad_scale is None else _wide(gradient) / grad_scale


def _kept(old: list[list[Tensor]], new: list[list[Tensor]], found_inf: Tensor | None) -> tuple[list[Tensor], ...]:
    """Return the new values in the old ones' dtypes; the old ones where `found_inf` is one."""

    def choose(before: Tensor, after: Tensor) -> Tensor:
        after = after.to(before.dtype)
        return after if found_inf is None else torch.where(found_inf == 1, before, after)

    return tuple([choose(*pair) for pair in zip(*lists, strict=True)] for lists in zip(old, new, strict=True))


def _adam(
    decoupled: bool,
    lists: list[list[Tensor]],
    state_steps: list[Tensor],
    lr: Number,
    beta1: Number,
    beta2: Number,
    weight_decay: Number,
    eps: Number,
    amsgrad: bool,
    maximize: bool,
    grad_scale: Tensor | None,
    found_inf: Tensor | None,
) -> tuple[list[Tensor], ...]:
    new: list[list[Tensor]] = [[] for _ in lists]
    lr = _scalar(lr)
    for i, (parameter, gradient, average, square) in enumerate(zip(*lists[:4], strict=True)):
        grad = stored = _unscaled(gradient, grad_scale)
        value, exp_avg, exp_avg_sq = _wide(parameter), _wide(average), _wide(square)
        grad = -grad if maximize else grad
        if decoupled:
            value = value - lr * weight_decay * value
        else:
            grad = grad + value * weight_decay
        exp_avg = exp_avg + (1 - beta1) * (grad - exp_avg)
        exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * grad * grad
        step = state_steps[i].to(torch.float64)  # near the first step 1 - beta2**step loses four digits in float32
        correction1, correction2 = 1 - beta1**step, torch.sqrt(1 - beta2**step)
        largest = torch.maximum(_wide(lists[4][i]), exp_avg_sq) if amsgrad else exp_avg_sq
        value = value - (lr / correction1) * exp_avg / (torch.sqrt(largest) / correction2 + eps)
        results = [value, stored, exp_avg, exp_avg_sq, *([largest] if amsgrad else [])]
        for column, result in zip(new, results, strict=False):
            column.append(result)
    return _kept(lists, new, found_inf)


@rewrites(aten._fused_adam.default, aten._fused_adam.tensor_lr)
def fused_adam(
    self: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    max_exp_avg_sqs: list[Tensor],
    state_steps: list[Tensor],
    *,
    lr: Number,
    beta1: Number,
    beta2: Number,
    weight_decay: Number,
    eps: Number,
    amsgrad: bool,
    maximize: bool,
    grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
) -> tuple[list[Tensor], ...]:
    """Compute Adam's step, with the weights' decay in the gradient; nothing changes where `found_inf` is one.

    max_exp_avg_sqs: empty without `amsgrad`. Gradients come back divided by `grad_scale`.
    Source: aten/src/ATen/native/cuda/fused_adam_utils.cuh.
    """
    lists = [self, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs]
    numbers = lr, beta1, beta2, weight_decay, eps
    return _adam(False, lists, state_steps, *numbers, amsgrad, maximize, grad_scale, found_inf)


@rewrites(aten._fused_adamw.default, aten._fused_adamw.tensor_lr)
def fused_adamw(
    self: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    max_exp_avg_sqs: list[Tensor],
    state_steps: list[Tensor],
    *,
    lr: Number,
    beta1: Number,
    beta2: Number,
    weight_decay: Number,
    eps: Number,
    amsgrad: bool,
    maximize: bool,
    grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
) -> tuple[list[Tensor], ...]:
    """Compute AdamW's step: Adam's, with a decay of the weights that is no part of the gradient.

    Source: aten/src/ATen/native/cuda/fused_adam_utils.cuh.
    """
    lists = [self, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs]
    numbers = lr, beta1, beta2, weight_decay, eps
    return _adam(True, lists, state_steps, *numbers, amsgrad, maximize, grad_scale, found_inf)


@rewrites(aten._fused_sgd.default, aten._fused_sgd.tensor_lr)
def fused_sgd(
    self: list[Tensor],
    grads: list[Tensor],
    momentum_buffer_list: list[Tensor],
    *,
    weight_decay: Number,
    momentum: Number,
    lr: Number,
    dampening: Number,
    nesterov: bool,
    maximize: bool,
    is_first_step: bool,
    grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
) -> tuple[list[Tensor], ...]:
    """Compute the step of stochastic gradient descent; nothing changes where `found_inf` is one.

    momentum_buffer_list: empty without momentum; the first step begins them with the gradients.
    Source: aten/src/ATen/native/cuda/FusedSgdKernel.cu.
    """
    old = [self, grads, momentum_buffer_list]
    new: list[list[Tensor]] = [[], [], []]
    lr = _scalar(lr)
    for i, (parameter, gradient) in enumerate(zip(self, grads, strict=True)):
        grad = stored = _unscaled(gradient, grad_scale)
        value = _wide(parameter)
        grad = (-grad if maximize else grad) + weight_decay * value
        if momentum_buffer_list:
            buffer = grad if is_first_step else momentum * _wide(momentum_buffer_list[i]) + (1 - dampening) * grad
            new[2].append(buffer)
            grad = grad + momentum * buffer if nesterov else buffer
        new[0].append(value - lr * grad)
        new[1].append(stored)
    return _kept(old, new, found_inf)


def _adagrad(
    lists: list[list[Tensor]],
    state_steps: list[Tensor],
    lr: Number,
    lr_decay: Number,
    weight_decay: Number,
    eps: Number,
    maximize: bool,
    grad_scale: Tensor | None,
    found_inf: Tensor | None,
) -> tuple[list[Tensor], ...]:
    new: list[list[Tensor]] = [[], [], []]
    lr = _scalar(lr)
    for parameter, gradient, state_sum, step in zip(*lists, state_steps, strict=True):
        grad = stored = _unscaled(gradient, grad_scale)
        value = _wide(parameter)
        grad = (-grad if maximize else grad) + weight_decay * value
        total = _wide(state_sum) + grad * grad
        rate = lr / (1 + (step - 1) * lr_decay)
        value = value - rate * grad / (torch.sqrt(total) + eps)
        for column, result in zip(new, (value, stored, total), strict=True):
            column.append(result)
    return _kept(lists, new, found_inf)


@rewrites(aten._fused_adagrad.default)
def fused_adagrad(
    self: list[Tensor],
    grads: list[Tensor],
    state_sums: list[Tensor],
    state_steps: list[Tensor],
    *,
    lr: Number,
    lr_decay: Number,
    weight_decay: Number,
    eps: Number,
    maximize: bool,
    grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
) -> tuple[list[Tensor], ...]:
    """Compute Adagrad's step; the numbers of steps come back as they are.

    Source: aten/src/ATen/native/cpu/FusedAdagradKernel.cpp.
    """
    numbers = lr, lr_decay, weight_decay, eps
    results = _adagrad([self, grads, state_sums], state_steps, *numbers, maximize, grad_scale, found_inf)
    return *results, [step.clone() for step in state_steps]


@rewrites(aten._fused_adagrad.tensor_lr)
def fused_adagrad_tensor_lr(
    self: list[Tensor],
    grads: list[Tensor],
    state_sums: list[Tensor],
    state_steps: list[Tensor],
    *,
    lr: Number,
    lr_decay: Number,
    weight_decay: Number,
    eps: Number,
    maximize: bool,
    grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
) -> tuple[list[Tensor], ...]:
    """Compute Adagrad's step with a tensor for its learning rate; the numbers of steps are no results.

    Source: aten/src/ATen/native/cpu/FusedAdagradKernel.cpp.
    """
    numbers = lr, lr_decay, weight_decay, eps
    return _adagrad([self, grads, state_sums], state_steps, *numbers, maximize, grad_scale, found_inf)


@rewrites(aten._amp_foreach_non_finite_check_and_unscale.default)
def amp_foreach_non_finite_check_and_unscale(
    self: list[Tensor], found_inf: Tensor, inv_scale: Tensor
) -> tuple[list[Tensor], Tensor]:
    """Multiply gradients by `inv_scale`, and make `found_inf` one if any element before was infinite or nan.

    Source: aten/src/ATen/native/cuda/AmpKernels.cu. An `inv_scale` of one changes nothing, subnormal numbers included.
    """
    bad = [~torch.isfinite(gradient).all() for gradient in self]
    unscaled = [
        torch.where(inv_scale == 1, gradient, (_wide(gradient) * inv_scale).to(gradient.dtype)) for gradient in self
    ]
    if not bad:
        return [], found_inf.clone()
    return unscaled, torch.where(torch.stack(bad).any(), torch.ones_like(found_inf), found_inf)


@rewrites(aten._amp_update_scale.default)
def amp_update_scale(
    self: Tensor,
    growth_tracker: Tensor,
    found_inf: Tensor,
    scale_growth_factor: Number,
    scale_backoff_factor: Number,
    growth_interval: int,
) -> tuple[Tensor, Tensor]:
    """Adjust the scale: smaller after a step with infinite gradients, larger after `growth_interval` without one.

    A scale never grows to infinity. Source: aten/src/ATen/native/cuda/AmpKernels.cu.
    """
    counted = growth_tracker + 1
    grows = counted == growth_interval
    grown = self * scale_growth_factor
    grown = torch.where(grows & torch.isfinite(grown), grown, self)
    failed = found_inf > 0
    scale = torch.where(failed, self * scale_backoff_factor, grown)
    tracker = torch.where(failed | grows, torch.zeros_like(counted), counted)
    return scale.to(self.dtype), tracker.to(growth_tracker.dtype)


# By name and overload, for callers whose numbers are tensors.
OPTIMIZER_STEPS = {
    "_fused_adam.default": fused_adam,
    "_fused_adamw.default": fused_adamw,
    "_fused_sgd.default": fused_sgd,
    "_fused_adagrad.default": fused_adagrad,
}
