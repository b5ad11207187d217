"""Every operator that takes a Python number, as a function of a tensor, a mask and the number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Operation = Callable[[Tensor, Tensor, Any], Tensor]


def _assigned(x: Tensor, place: Any, n: Any) -> Tensor:
    x = x.clone()
    x[place] = n
    return x


def _first(x: Tensor) -> Tensor:
    return torch.zeros(1, dtype=torch.int64, device=x.device)


OPERATIONS: dict[str, Operation] = {
    "eq": lambda x, m, n: x == n,
    "ne": lambda x, m, n: x != n,
    "lt": lambda x, m, n: x < n,
    "le": lambda x, m, n: x <= n,
    "gt": lambda x, m, n: x > n,
    "ge": lambda x, m, n: x >= n,
    "number eq": lambda x, m, n: n == x,
    "number lt": lambda x, m, n: n < x,
    "number ge": lambda x, m, n: n >= x,
    "add": lambda x, m, n: x + n,
    "add to number": lambda x, m, n: n + x,
    "add alpha": lambda x, m, n: torch.add(x, x, alpha=n),
    "sub": lambda x, m, n: x - n,
    "sub alpha": lambda x, m, n: torch.sub(x, x, alpha=n),
    "rsub": lambda x, m, n: torch.rsub(x, n),
    "rsub alpha": lambda x, m, n: torch.rsub(x, 2, alpha=n),
    "rsub with alpha": lambda x, m, n: torch.rsub(x, n, alpha=2),
    "mul": lambda x, m, n: x * n,
    "div": lambda x, m, n: x / n,
    "div of number": lambda x, m, n: n / x,
    "div trunc": lambda x, m, n: torch.div(x, n, rounding_mode="trunc"),
    "div floor": lambda x, m, n: torch.div(x, n, rounding_mode="floor"),
    "floor_divide": lambda x, m, n: x // n,
    "floor_divide of number": lambda x, m, n: n // x.clamp(min=1),
    "remainder": lambda x, m, n: x % n,
    "remainder of number": lambda x, m, n: n % x.clamp(min=1),
    "fmod": lambda x, m, n: torch.fmod(x, n),
    "pow": lambda x, m, n: torch.pow(x, n),
    "pow of number": lambda x, m, n: torch.pow(n, x),
    "clamp low": lambda x, m, n: torch.clamp(x, n, 100),
    "clamp high": lambda x, m, n: torch.clamp(x, 1, n),
    "clamp_min": lambda x, m, n: torch.clamp_min(x, n),
    "clamp_max": lambda x, m, n: torch.clamp_max(x, n),
    "and": lambda x, m, n: x & n,
    "or": lambda x, m, n: n | x,
    "xor": lambda x, m, n: x ^ n,
    "left shift": lambda x, m, n: torch.bitwise_left_shift(x, n),
    "right shift": lambda x, m, n: torch.bitwise_right_shift(x, n),
    "left shift of number": lambda x, m, n: torch.bitwise_left_shift(n, x),
    "right shift of number": lambda x, m, n: torch.bitwise_right_shift(n, x),
    "where other": lambda x, m, n: torch.where(m, x, n),
    "where self": lambda x, m, n: torch.where(m, n, x),
    "where both": lambda x, m, n: torch.where(m, n, 1),
    "masked_fill": lambda x, m, n: x.masked_fill(m, n),
    "fill": lambda x, m, n: torch.fill(x, n),
    "full": lambda x, m, n: torch.full((3,), n, dtype=x.dtype),
    "full_like": lambda x, m, n: torch.full_like(x, n),
    "new_full": lambda x, m, n: x.new_full((2,), n),
    "scalar_tensor": lambda x, m, n: torch.scalar_tensor(n, dtype=x.dtype),
    "index_fill": lambda x, m, n: x.index_fill(0, _first(x), n),
    "assignment": lambda x, m, n: _assigned(x, 1, n),
    "assignment by mask": lambda x, m, n: _assigned(x, m, n),
    "threshold": lambda x, m, n: F.threshold(x, n, 3),
    "threshold value": lambda x, m, n: F.threshold(x, 3, n),
    "hardtanh low": lambda x, m, n: F.hardtanh(x, n, 100),
    "hardtanh high": lambda x, m, n: F.hardtanh(x, 0, n),
    "isin number": lambda x, m, n: torch.isin(x, n),
    "number isin": lambda x, m, n: torch.isin(n, x),
    "searchsorted": lambda x, m, n: torch.searchsorted(x.sort()[0], n),
    "bucketize": lambda x, m, n: torch.bucketize(n, x.sort()[0]),
    "addcmul": lambda x, m, n: torch.addcmul(x, x, x, value=n),
    "addcdiv": lambda x, m, n: torch.addcdiv(x, x, x, value=n),
    "lerp": lambda x, m, n: torch.lerp(x, x * 2, n),
    "scatter": lambda x, m, n: x.scatter(0, _first(x), n),
    "scatter add": lambda x, m, n: x.scatter(0, _first(x), n, reduce="add"),
    "scatter multiply": lambda x, m, n: x.scatter(0, _first(x), n, reduce="multiply"),
    "pad": lambda x, m, n: F.pad(x, (1, 1), value=n),
    "nan_to_num": lambda x, m, n: torch.nan_to_num(x, nan=n, posinf=n, neginf=n),
    "copysign": lambda x, m, n: torch.copysign(x, n),
    "xlogy": lambda x, m, n: torch.xlogy(x, n),
    "xlogy of number": lambda x, m, n: torch.xlogy(n, x),
    "polynomial": lambda x, m, n: torch.special.chebyshev_polynomial_t(x, n),
    "addmm beta": lambda x, m, n: torch.addmm(x[:, None], x[:, None], x[:1, None], beta=n),
    "addmm alpha": lambda x, m, n: torch.addmm(x[:, None], x[:, None], x[:1, None], alpha=n),
    "baddbmm": lambda x, m, n: torch.baddbmm(x[None, :, None], x[None, :, None], x[None, :1, None], beta=n, alpha=n),
    "addmv": lambda x, m, n: torch.addmv(x, x[:, None], x[:1], alpha=n),
    "addr": lambda x, m, n: torch.addr(x[:, None], x, x[:1], alpha=n, beta=n),
    "_foreach_add": lambda x, m, n: torch._foreach_add([x], n)[0],
    "_foreach_clamp_min": lambda x, m, n: torch._foreach_clamp_min([x], n)[0],
    "add_": lambda x, m, n: x.clone().add_(n),
    "mul_": lambda x, m, n: x.clone().mul_(n),
    "leaky_relu": lambda x, m, n: F.leaky_relu(x, n),
    "elu": lambda x, m, n: F.elu(x, n),
    "hardshrink": lambda x, m, n: F.hardshrink(x, n),
    # Of a tensor without dimensions, and with the number as such a tensor, which is nearly a number.
    "scalar gt": lambda x, m, n: x[3] > n,
    "scalar add": lambda x, m, n: x[3] + n,
    "scalar mul": lambda x, m, n: x[3] * n,
    "add scalar": lambda x, m, n: x + torch.tensor(n),
    "eq scalar": lambda x, m, n: x == torch.tensor(n),
    "gt scalar": lambda x, m, n: x > torch.tensor(n),
    "maximum scalar": lambda x, m, n: torch.maximum(x, torch.tensor(n)),
    "fmin scalar": lambda x, m, n: torch.fmin(x, torch.tensor(n)),
    "atan2 scalar": lambda x, m, n: torch.atan2(x, torch.tensor(n)),
    "gcd scalar": lambda x, m, n: torch.gcd(x, torch.tensor(n)),
    "logical_and scalar": lambda x, m, n: torch.logical_and(x, torch.tensor(n)),
    "where scalar": lambda x, m, n: torch.where(m, x, torch.tensor(n)),
}  # fmt: skip

# Extremes; not the least of 32 and 64 bits, whose division by -1 ends the process in eager.
VALUES: dict[torch.dtype, list[Any]] = {
    torch.bool: [False, True, True, False],
    torch.uint8: [0, 1, 100, 255],
    torch.int8: [0, -1, 127, -128],
    torch.int16: [0, -1, 32767, -32768],
    torch.int32: [0, -1, 2**31 - 1, -(2**31) + 1],
    torch.int64: [0, -1, 2**63 - 1, -(2**63) + 1],
    torch.uint16: [0, 1, 100, 2**16 - 1],
    torch.uint32: [0, 1, 100, 2**32 - 1],
    torch.uint64: [0, 1, 100, 2**64 - 1],
}
FLOATS = [0.0, -1.5, 7.0, float("inf")]


def tensors(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Values of a dtype, and a mask."""
    return torch.tensor(VALUES.get(dtype, FLOATS), dtype=dtype), torch.tensor([True, False, True, False])
