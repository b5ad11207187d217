"""Adafactor on tensors alone: PyTorch's own step reads norms and counts on the host and branches on them."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer


def adafactor_step(optimizer: Optimizer) -> None:
    """Make one step of torch.optim.Adafactor, with its minima and maxima in tensors.

    Source: Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", 2018, with the
    constants and the order of torch.optim.Adafactor.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                gradient = -parameter.grad if group["maximize"] else parameter.grad
                _update(parameter, gradient, optimizer.state[parameter], group)


def _update(
    parameter: torch.Tensor, gradient: torch.Tensor, state: dict[str, torch.Tensor], group: dict[str, Any]
) -> None:
    lr, (eps1, eps2), step = torch.as_tensor(group["lr"]), group["eps"], state["step"]
    eps1 = torch.finfo(parameter.dtype).eps if eps1 is None else eps1
    step += 1
    # The share of the new moments in the running ones, and the step relative to the parameter's scale.
    share = step ** group["beta2_decay"]
    size = torch.clamp(_rms(parameter), min=eps2) * torch.minimum(lr, step**-0.5)
    if group["weight_decay"]:
        parameter.mul_(1 - lr * group["weight_decay"])
    if gradient.ndim > 1:
        # A matrix of second moments as the product of the means of its rows and columns.
        row, column = state["row_var"], state["col_var"]
        row.add_((gradient.square().mean(-1, keepdim=True) - row) * share)
        column.add_((gradient.square().mean(-2, keepdim=True) - column) * share)
        moments = row @ column / row.mean(-2, keepdim=True).clamp(min=eps1)
    else:
        moments = state["variance"]
        moments.add_((gradient.square() - moments) * share)
    update = gradient * moments.clamp(min=eps1 * eps1).rsqrt()
    parameter.add_(update * (-size / torch.clamp(_rms(update) / group["d"], min=1.0)))


def _rms(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.norm(2) / tensor.numel() ** 0.5
