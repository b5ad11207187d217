"""Integer arithmetic that leaves its dtype's range wraps at its own width, in every dtype and operator."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.sampled(2)

SIGNED = [torch.int8, torch.int16, torch.int32, torch.int64]
UNSIGNED = [torch.uint8, torch.uint16, torch.uint32, torch.uint64]


def pairs(dtype):
    """Sixteen numbers, the extreme ones among them, each with each."""
    least, most = torch.iinfo(dtype).min, torch.iinfo(dtype).max
    small = [-7, -3, -2, -1] if dtype.is_signed else [200, 13, most // 2, most // 2 + 1]
    numbers = torch.tensor([least, least + 1, most, most - 1, *small, 0, 1, 2, 3, 5, 7, 11, 100], dtype=dtype)
    return numbers.repeat_interleave(16), numbers.repeat(16)


def divisor(x):
    # Eager PyTorch ends the process for the least integer divided by -1.
    return torch.where((x == 0) | (x + 1 == 0), torch.ones_like(x), x)


def square(x):
    return x.reshape(16, 16)


OPERATORS = {
    "add": lambda x, y: torch.add(x, y, alpha=5),
    "sub": lambda x, y: torch.sub(x, y, alpha=5),
    "rsub": lambda x, y: torch.rsub(x, y, alpha=3),
    "mul": torch.mul,
    "mul-scalar": lambda x, y: x * 100,
    "neg": lambda x, y: -x,
    "abs": lambda x, y: x.abs(),
    "square": lambda x, y: x.square(),
    "pow": torch.pow,
    "pow-in-place": lambda x, y: x.clone().pow_(y),
    "pow-63": lambda x, y: x**63,
    "pow-100": lambda x, y: x**100,
    "pow-127": lambda x, y: x**127,
    "pow-negative": lambda x, y: x**-3,
    "pow-of-int64": lambda x, y: torch.pow(x, torch.full_like(y, 100, dtype=torch.int64)),
    "pow-of-a-number": lambda x, y: 3**y,
    "pow-of-a-negative-number": lambda x, y: (-7) ** y,
    "cumsum": lambda x, y: x.cumsum(0, dtype=x.dtype),
    "cumsum-int16": lambda x, y: x.cumsum(0, dtype=torch.int16),
    "cumprod": lambda x, y: divisor(x).cumprod(0, dtype=x.dtype),
    "prod": lambda x, y: divisor(x)[:9].prod(dtype=x.dtype),
    "sum": lambda x, y: x.sum(dtype=x.dtype),
    "sum-int8": lambda x, y: x.sum(dtype=torch.int8),
    "addcmul": lambda x, y: torch.addcmul(x, y, x, value=3),
    "dot": torch.dot,
    "mm": lambda x, y: square(x) @ square(y) @ square(x),
    "bmm": lambda x, y: torch.bmm(x.reshape(4, 8, 8), y.reshape(4, 8, 8)),
    "addmm": lambda x, y: torch.addmm(square(x), square(x), square(y), alpha=3, beta=2),
    "matrix_power": lambda x, y: torch.linalg.matrix_power(square(x), 5),
    "lshift": lambda x, y: x << y,
    "rshift": lambda x, y: x >> y,
    "bitwise_right_shift": torch.bitwise_right_shift,
    "floor_divide": lambda x, y: x // divisor(y),
    "div-trunc": lambda x, y: torch.div(x, divisor(y), rounding_mode="trunc"),
    "remainder": lambda x, y: x % divisor(y),
    "fmod": lambda x, y: torch.fmod(x, divisor(y)),
    "sgn": lambda x, y: x.sgn(),
    "clamp": lambda x, y: torch.clamp(x, y, x),
    "heaviside": torch.heaviside,
    "lcm": lambda x, y: torch.lcm(x & 127, y & 127),
    "index_add": lambda x, y: x[:4].index_add(0, torch.tensor([0, 0, 1, 1]), y[:4]),
    "scatter-prod": lambda x, y: x[:4].scatter_reduce(0, torch.tensor([0, 0, 1, 1]), y[:4], "prod"),
    "avg_pool": lambda x, y: torch.nn.functional.avg_pool1d(x.reshape(1, 1, -1), 3),
}


@pytest.mark.parametrize("dtype", SIGNED + UNSIGNED, ids=str)
def test_arithmetic_wraps_at_its_own_width(dtype):
    x, y = pairs(dtype)
    expected = {}
    for name, operator in OPERATORS.items():
        if dtype == torch.uint8 and name == "pow-of-a-negative-number":
            continue
        try:
            expected[name] = operator(x, y)
        except (RuntimeError, TypeError, NotImplementedError):
            continue  # eager has no such operator of this dtype
    assert len(expected) >= 3

    def every(x, y):
        return {name: OPERATORS[name](x, y) for name in expected}

    actual = torch.compile(every, backend="tpu", fullgraph=True, dynamic=False)(x, y)
    for name, theirs in expected.items():
        torch.testing.assert_close(actual[name], theirs, rtol=0, atol=0, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("dtype", SIGNED, ids=str)
def test_the_least_integer_divided_by_minus_one_wraps(dtype):
    least = torch.iinfo(dtype).min
    x, y = torch.full((4,), least, dtype=dtype), torch.full((4,), -1, dtype=dtype)
    compiled = torch.compile(lambda x, y: (x // y, torch.div(x, y, rounding_mode="trunc"), x % y), backend="tpu")
    assert [each.tolist() for each in compiled(x, y)] == [[least] * 4, [least] * 4, [0] * 4]
