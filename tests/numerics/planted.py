"""Operators whose lowerings are wrong, or right to the last place and no further; and models that call them."""

from __future__ import annotations

import torch
from torch import Tensor

import tpu_dynamo

_LIBRARY = torch.library.Library("planted_faults", "DEF")


def _define(name: str, factor: float) -> torch._ops.OpOverload:
    """Define the identity, whose lowering multiplies by a factor, in the forward and the backward."""
    for each in (name, f"{name}_gradient"):
        _LIBRARY.define(f"{each}(Tensor x) -> Tensor")
        _LIBRARY.impl(each, lambda x: x.clone(), "CPU")
        torch.library.register_fake(f"planted_faults::{each}", torch.empty_like, lib=_LIBRARY)
        overload = getattr(torch.ops.planted_faults, each).default

        def lowering(x: Tensor) -> Tensor:
            """Multiply by a number near one."""
            return x * factor

        tpu_dynamo.lowers(overload)(lowering)
    gradient = getattr(torch.ops.planted_faults, f"{name}_gradient").default
    torch.library.register_autograd(f"planted_faults::{name}", lambda context, g: gradient(g), lib=_LIBRARY)
    return getattr(torch.ops.planted_faults, name).default


# Off by one in a hundred, and by one unit of float32's last place.
off = _define("off", 1.01)
nudged = _define("nudged", 1.0 + 2.0**-23)
# The identity, whose gradient is that of `off`.
_LIBRARY.define("right_forward(Tensor x) -> Tensor")
_LIBRARY.impl("right_forward", lambda x: x.clone(), "CPU")
torch.library.register_fake("planted_faults::right_forward", torch.empty_like, lib=_LIBRARY)
right_forward = torch.ops.planted_faults.right_forward.default
tpu_dynamo.lowers(right_forward)(lambda x: x * 1.0)
torch.library.register_autograd(
    "planted_faults::right_forward",
    lambda context, g: torch.ops.planted_faults.off_gradient.default(g),
    lib=_LIBRARY,
)


class Deep(torch.nn.Module):
    """A chain of layers, with the wrong operator in the middle."""

    def __init__(self, layers: int):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = x + torch.tanh(layer(x)) * 0.1
            if i == len(self.layers) // 2:
                x = off(x)  # the planted line
        return x


class OffInBackward(torch.nn.Module):
    """A layer whose gradient alone is wrong."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return right_forward(self.layer(x))  # off in the backward


def make_wrong():
    return Deep(2), (torch.randn(4, 8),)


def make_right():
    return torch.nn.Linear(8, 8), (torch.randn(4, 8),)


def make_nothing():
    in_eager = torch.compiler.disable(lambda x: x + 1)
    return lambda x: in_eager(x), (torch.randn(3),)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def make_right_loss():
    model = torch.nn.Sequential(torch.nn.Linear(8, 1), torch.nn.Flatten(0), torch.nn.Softplus(), Mean())
    return model, (torch.randn(4, 8),)


class Mean(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean()
