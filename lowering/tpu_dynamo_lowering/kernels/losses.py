"""Gradients of losses: of the negative log-likelihood, and of the margins of several labels."""

from __future__ import annotations

import jax.numpy as jnp
import torch
from jax import Array, lax

from ..table import kernel
from .indexing import accumulator

aten = torch.ops.aten

_MEAN = 1


@kernel(aten.nll_loss_backward.default, aten.nll_loss2d_backward.default)
def nll_loss_backward(
    grad_output: Array,
    self: Array,
    target: Array,
    weight: Array | None,
    reduction: int,
    ignore_index: int,
    total_weight: Array,
) -> Array:
    """Compute the gradient of the negative log-likelihood: one select, where torch's decomposition has a scatter.

    self: [classes], [batch, classes] or [batch, classes, height, width]; target: the same without the classes. With the
    mean (reduction 1) the gradient is divided by `total_weight`. Source: ATen `nll_loss_backward`.
    """
    axis = min(self.ndim - 1, 1)
    dtype = accumulator(self.dtype)
    grad = grad_output.astype(dtype)
    if self.ndim == 1:  # one sample without a batch; its target and its gradient may be vectors of one element
        target, grad = target.reshape(()), grad.reshape(())
    if reduction == _MEAN:
        grad = grad / total_weight.astype(dtype)
    grad = jnp.expand_dims(jnp.where(target == ignore_index, 0, grad), axis)
    target = jnp.expand_dims(target, axis)
    hit = lax.broadcasted_iota(target.dtype, self.shape, axis) == target
    if weight is not None:
        grad = grad * weight.astype(dtype).reshape(-1, *(1,) * (self.ndim - 1 - axis))
    return jnp.where(hit, -grad, 0)


@kernel(aten.multilabel_margin_loss_backward.default)
def multilabel_margin_loss_backward(
    grad_output: Array, self: Array, target: Array, reduction: int, is_target: Array
) -> Array:
    """Compute the gradient of multilabel_margin_loss: each positive margin raises its class and lowers its label.

    self, target, is_target: [batch, classes] or [classes].
    Source: aten/src/ATen/native/LossMultiLabelMargin.cpp.
    """
    values = jnp.atleast_2d(self).astype(accumulator(self.dtype))
    labels, is_label = jnp.atleast_2d(target), jnp.atleast_2d(is_target) != 0
    batch, classes = labels.shape
    given = jnp.cumsum(labels < 0, 1) == 0
    score = jnp.take_along_axis(values, jnp.where(given, labels, 0), 1, mode="clip")
    above = 1 - score[:, :, None] + values[:, None, :] > 0
    counts = (given[:, :, None] & ~is_label[:, None, :] & above).astype(values.dtype)
    hit = (labels[:, :, None] == lax.iota(labels.dtype, classes)).astype(values.dtype)
    lowered = jnp.einsum("nl,nlc->nc", counts.sum(2), hit, precision="highest")
    share = 1 / (classes * (max(batch, 1) if reduction == _MEAN else 1))
    grad = (counts.sum(1) - lowered) * share * grad_output.astype(values.dtype).reshape(-1, 1)
    return grad.reshape(self.shape)
