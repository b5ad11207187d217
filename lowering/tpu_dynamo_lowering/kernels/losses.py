"""The gradients of the negative log-likelihood, which torch's decomposition scatters."""

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
    """The gradient of the negative log-likelihood: one select, where torch's decomposition has a scatter.

    self: [classes], [batch, classes] or [batch, classes, height, width]; target: the same without the classes. With
    the mean (reduction 1) it is divided by `total_weight`. Source: ATen `nll_loss_backward`.
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
