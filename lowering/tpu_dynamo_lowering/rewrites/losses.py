"""Losses, and gradients, whose decomposition in torch is wrong for some inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from ..table import before_autograd, rewrites

aten = torch.ops.aten

_NONE, _MEAN = range(2)


@before_autograd(aten.multilabel_margin_loss_forward.default)
@rewrites(aten.multilabel_margin_loss_forward.default)
def multilabel_margin_loss_forward(self: Tensor, target: Tensor, reduction: int) -> tuple[Tensor, Tensor]:
    """Sum max(0, 1 - a label's score + another class's score), divided by the classes; also return the labels.

    self, target: [batch, classes], [classes] or no dimensions; a sample's labels end at its first negative one, which
    torch's decomposition takes wrongly for one of them. A margin that is nan does not count. The second result is 1 for
    classes that are labels, else 0. Source: aten/src/ATen/native/LossMultiLabelMargin.cpp.
    """
    values, labels = torch.atleast_2d(self), torch.atleast_2d(target)
    batch, classes = labels.shape
    given = (labels < 0).cumsum(1) == 0
    hit = given.unsqueeze(2) & (labels.unsqueeze(2) == torch.arange(classes, device=labels.device))
    is_label = hit.any(1)
    score = values.gather(1, labels.where(given, 0))
    margin = 1 - score.unsqueeze(2) + values.unsqueeze(1)
    counts = given.unsqueeze(2) & ~is_label.unsqueeze(1) & (margin > 0)
    loss = margin.where(counts, 0).sum((1, 2)) / classes
    if reduction != _NONE or self.ndim < 2:
        loss = loss.sum() / (max(batch, 1) if reduction == _MEAN else 1)
    return loss, is_label.to(self.dtype).reshape(self.shape)


@before_autograd(aten.multi_margin_loss.default)
@rewrites(aten.multi_margin_loss.default)
def multi_margin_loss(
    self: Tensor,
    target: Tensor,
    p: float = 1,
    margin: float = 1,
    weight: Tensor | None = None,
    reduction: int = _MEAN,
) -> Tensor:
    """Sum max(0, margin - the label's score + another class's score) ** p over the classes, divided by their number.

    self: [batch, classes] or [classes]; p: 1 or 2. A term that is nan does not count.
    Source: aten/src/ATen/native/LossMultiMargin.cpp.
    """
    values, labels = torch.atleast_2d(self), torch.atleast_1d(target).unsqueeze(1)
    batch, classes = values.shape
    near = margin - values.gather(1, labels) + values
    counts = (near > 0) & (labels != torch.arange(classes, device=labels.device))
    near = near.where(counts, 0)
    near = near if p == 1 else near * near
    loss = (near if weight is None else near * weight[labels]).sum(1) / classes
    return loss.reshape(target.shape) if reduction == _NONE else loss.sum() / (batch if reduction == _MEAN else 1)


@rewrites(aten.smooth_l1_loss_backward.default)
def smooth_l1_loss_backward(grad_output: Tensor, self: Tensor, target: Tensor, reduction: int, beta: float) -> Tensor:
    """Compute the gradient of smooth_l1_loss, nan where the difference is; torch's decomposition gives zero there."""
    difference = self - target
    share = 1 / max(difference.numel(), 1) if reduction == _MEAN else 1.0
    slope = difference.sign() if beta == 0 else (difference / beta).clamp(-1, 1)
    return slope.where(difference == difference, difference) * share * grad_output


@rewrites(aten.logit_backward.default)
def logit_backward(grad_output: Tensor, self: Tensor, eps: float | None = None) -> Tensor:
    """Compute the gradient of logit: inf at 0 and 1; outside the bounds nan without `eps`, 0 with it; nan for nan."""
    low, high, outside = (0.0, 1.0, float("nan")) if eps is None else (eps, 1 - eps, 0.0)
    steep = (self == 0) | (self == 1)
    inside = torch.where(steep, grad_output * float("inf"), grad_output / (self * (1 - self)))
    return inside.masked_fill((self < low) | (self > high), outside)
