"""Norms, softmaxes and attention: errors against float64 beside those of eager PyTorch, on rows that are hard to sum."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

pytestmark = pytest.mark.sampled(4)

INF = float("inf")


def rows(mean: float = 0, spread: float = 1, length: int = 384, each: float = 0) -> Tensor:
    """Return [8 or 1, 12, 4, length] with a standard deviation, a mean, and means of single rows around that."""
    shape = (8 if length < 1000 else 1, 12, 4)
    return mean + each * torch.randn(*shape, 1) + spread * torch.randn(*shape, length)


def with_outliers() -> Tensor:
    x = rows()
    x[..., ::97] *= 1000
    return x


ROWS = {
    "plain": rows,
    "small-means": partial(rows, each=0.3),
    "mean-1e3": partial(rows, 1e3),
    "mean-1e6": partial(rows, -1e6, 3.0),
    "means": partial(rows, each=300),
    "tiny": partial(rows, spread=1e-4),
    "tiny-around-1": partial(rows, 1, spread=1e-4),
    "huge": partial(rows, spread=1e15),
    "outliers": with_outliers,
    "long": partial(rows, 0.5, length=20011),
}


def parameters(shape: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return a weight around one and a bias around zero."""
    waves = torch.arange(math.prod(shape)).reshape(shape).sin() * 0.1
    return (1 + waves).to(torch.bfloat16).to(like.dtype), waves.flip(0).to(torch.bfloat16).to(like.dtype)


NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "layer_norm": lambda x: F.layer_norm(x, x.shape[-1:], *parameters(x.shape[-1:], x)),
    "layer_norm-of-two": lambda x: F.layer_norm(x, x.shape[2:]),
    "group_norm": lambda x: F.group_norm(x, 6, *parameters([12], x)),
    "instance_norm": F.instance_norm,
    "batch_norm": lambda x: F.batch_norm(x, None, None, training=True),
    "rms_norm": lambda x: F.rms_norm(x, x.shape[-1:], *parameters(x.shape[-1:], x)[:1], eps=1e-6),
    "normalize": lambda x: F.normalize(x, dim=-1),
    "local_response_norm": lambda x: F.local_response_norm(x, 5),
    "vector_norm": lambda x: torch.linalg.vector_norm(x, dim=-1),
    "vector_norm-of-order-3": lambda x: torch.linalg.vector_norm(x, 3, dim=-1),
    "norm-of-order-1": lambda x: torch.linalg.vector_norm(x, 1, dim=1),
    "var": lambda x: x.var(-1),
    "std": lambda x: x.std((1, 3)),
    "mean": lambda x: x.mean(-1),
}


def hidden(x: Tensor) -> Tensor:
    """Hide nine of ten elements of each row."""
    return x.masked_fill(torch.rand(x.shape) < 0.9, -INF)


SCORES = {
    "plain": rows,
    "spread-10": partial(rows, spread=10),
    "spread-100": partial(rows, spread=100),
    "mean-1e3": partial(rows, 1e3),
    "mean-1e6": partial(rows, -1e6, 3.0),
    "equal": partial(rows, 3, spread=0),
    "tiny": partial(rows, spread=1e-3),
    "hidden": lambda: hidden(rows(spread=3)),
    "long": partial(rows, length=20011),
    "long-and-hidden": lambda: hidden(rows(spread=3, length=20011)),
}

SOFTMAXES: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda x: x.softmax(-1),
    "softmax-across": lambda x: x.softmax(1),
    "log_softmax": lambda x: x.log_softmax(-1),
    "log_softmax-across": lambda x: x.log_softmax(1),
    "logsumexp": lambda x: x.logsumexp(-1),
    "softmin": lambda x: F.softmin(x.nan_to_num(neginf=30), -1),
    "cross_entropy": lambda x: F.cross_entropy(
        x.flatten(0, 2), torch.zeros(x[..., 0].numel(), dtype=torch.int64), reduction="none"
    ).clamp(max=1e4),
}


def attended(x: Tensor, causal: bool = False, mask: bool = False, groups: int = 1) -> Tensor:
    """Attend from heads of 16 numbers to those of the same row. x: [2, 12, 4, n]."""
    query = x[..., :384].reshape(-1, 12, 96, 16)
    key, value = query.roll(5, 2)[:, ::groups], (query * 0.5).roll(7, 3)[:, ::groups]
    seen = None
    if mask:
        seen = torch.zeros(96, 96, dtype=x.dtype).masked_fill(
            torch.arange(96)[:, None] % 7 != torch.arange(96) % 7, -INF
        )
    return F.scaled_dot_product_attention(query, key, value, seen, is_causal=causal, enable_gqa=groups > 1)


QUERIES = {name: ROWS[name] for name in ("plain", "small-means", "tiny", "outliers")} | {
    "spread-3": partial(rows, spread=3), "mean-10": partial(rows, 10, each=3),
}  # fmt: skip

ATTENTION: dict[str, Callable[[Tensor], Tensor]] = {
    "attention": attended,
    "causal": partial(attended, causal=True),
    "masked": partial(attended, mask=True),
    "shared-heads": partial(attended, groups=4),
}

# Which eager does not compute in half precision on a CPU.
IN_FLOAT32 = ("local_response_norm",)

CASES = [
    pytest.param(operator, inputs, dtype, id=f"{name}-{str(dtype).removeprefix('torch.')}")
    for operators, inputs in ((NORMS, ROWS), (SOFTMAXES, SCORES), (ATTENTION, QUERIES))
    for name, operator in operators.items()
    for dtype in ((torch.float32,) if name in IN_FLOAT32 else (torch.float32, torch.bfloat16))
]


def error(found: Tensor, exact: Tensor) -> float:
    """Return the root of the mean square of the differences over that of the exact values, where those are finite."""
    seen = exact.isfinite()
    scale = exact[seen].square().mean().sqrt().item() or 1.0  # equal elements deviate by zero
    return (found.double()[seen] - exact[seen]).square().mean().sqrt().item() / scale


@pytest.mark.parametrize(("operator", "inputs", "dtype"), CASES)
def test_errors_are_not_larger_than_eagers(operator, inputs, dtype):
    torch.manual_seed(0)
    given = {name: make().to(dtype) for name, make in inputs.items()}
    compiled = torch.compile(lambda *rows: [operator(each) for each in rows], backend="tpu", fullgraph=True)
    worse: dict[str, Any] = {}
    for (name, x), ours in zip(given.items(), compiled(*given.values()), strict=True):
        exact, eager = operator(x.double()), operator(x)
        of_ours, of_eager = error(ours, exact), error(eager, exact)
        # Where eager's results happen to be exact, a sixth of what rounding them once costs.
        if of_ours > 1.1 * of_eager + 0.05 * torch.finfo(dtype).eps:
            worse[name] = of_ours, of_eager
    assert not worse
