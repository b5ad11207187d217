"""Half precision is rounded once: no result is farther from float64's than eager PyTorch's is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

pytestmark = pytest.mark.sampled(2)

aten = torch.ops.aten

UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    name: getattr(torch, name)
    for name in [
        "acos",
        "acosh",
        "asin",
        "asinh",
        "atan",
        "atanh",
        "cos",
        "cosh",
        "erf",
        "erfc",
        "erfinv",
        "exp",
        "exp2",
        "expm1",
        "log",
        "log10",
        "log1p",
        "log2",
        "reciprocal",
        "rsqrt",
        "sigmoid",
        "sin",
        "sinh",
        "sqrt",
        "tan",
        "tanh",
    ]
} | {"gelu": F.gelu, "silu": F.silu, "mish": F.mish, "softplus": F.softplus, "log_sigmoid": F.logsigmoid}

BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "hypot": torch.hypot, "atan2": torch.atan2, "logaddexp": torch.logaddexp, "logaddexp2": torch.logaddexp2,
    "tanh_backward": aten.tanh_backward, "sigmoid_backward": aten.sigmoid_backward,
    "gelu_backward": aten.gelu_backward, "silu_backward": aten.silu_backward,
}  # fmt: skip


def resampled(x: Tensor) -> list[Tensor]:
    images = x[:, :297].reshape(2, 20, 27, 11)
    found = [
        F.interpolate(images, size, mode=mode, align_corners=corners)
        for size, corners in (((13, 17), False), ((30, 5), True))
        for mode in ("bilinear", "bicubic")
    ]
    found += [F.adaptive_avg_pool2d(images, size) for size in ((5, 4), (9, 11))]
    found += [F.avg_pool2d(images, 3, 2, 1), F.lp_pool2d(images.abs(), 2, 3)]
    return [*found, aten.upsample_bicubic2d_backward(images, [27, 11], [2, 20, 9, 5], False)]


def reduced(x: Tensor) -> list[Tensor]:
    small = x * 0.01 + 1
    return [
        x.sum(1), x.mean(1), small.prod(1), x.var(1), x.std(), x.norm(dim=1), torch.linalg.vector_norm(x, 3, dim=1),
        x.logsumexp(1), x.cumsum(1), small.cumprod(1), x.softmax(1), x.log_softmax(1), F.layer_norm(x, [300]),
        F.rms_norm(x, [300]), F.group_norm(x, 30), x @ x.t(), torch.dist(x, x * 0.5), F.mse_loss(x, x.flip(0)),
    ]  # fmt: skip


def no_farther(function: Callable[..., list[Tensor]], names: list[str], *inputs: Tensor) -> None:
    """Compare means of distances, with 5% for ties and other orders of sums."""
    truth = function(*(each.double() for each in inputs))
    eager = function(*inputs)
    actual = torch.compile(function, backend="tpu", fullgraph=True, dynamic=False)(*inputs)
    for name, ours, theirs, exact in zip(names, actual, eager, truth, strict=True):
        assert ours.dtype == theirs.dtype, name
        distance = [(each.double() - exact).abs().mean().item() for each in (ours, theirs)]
        assert distance[0] <= 1.05 * distance[1] + 1e-6, (name, distance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_elementwise_functions_round_once(dtype):
    x = (torch.rand(20, 600) * 0.9 + 0.05).to(dtype)
    y = x.flip(0, 1)

    def every(x, y):
        found = [function(1 + x if name == "acosh" else x) for name, function in UNARY.items()]
        return [*found, *(function(x, y) for function in BINARY.values())]

    no_farther(every, [*UNARY, *BINARY], x, y)


@pytest.mark.parametrize("function", [resampled, reduced], ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_sums_round_once(function, dtype):
    x = torch.randn(40, 300).to(dtype)
    no_farther(function, [str(i) for i in range(len(function(x.float())))], x)
