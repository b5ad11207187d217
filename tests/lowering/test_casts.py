"""Casts between every two dtypes, with every bit pattern of the small ones and special values of the others."""

from __future__ import annotations

import math

import pytest
import torch

import tpu_dynamo  # noqa: F401, which registers the device

pytestmark = pytest.mark.sampled(3)

INTEGERS = [
    torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64,
]  # fmt: skip
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
FLOAT8 = [
    torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu,
]  # fmt: skip
DTYPES = [torch.bool, *INTEGERS, *FLOATS, *FLOAT8]

NUMBERS = [
    0.0, 0.5, 0.75, 1.0, 1.5, 3.0, 127.9, 128.9, 240.0, 247.0, 248.0, 256.0, 257.0, 300.7, 448.0, 463.0, 464.0, 465.0,
    480.0, 1e4, 57344.0, 61439.0, 61440.0, 61441.0, 65504.0, 65519.0, 65520.0, 65535.5, 7e4, 2147483520.0, 2.0**31,
    2147483904.0, 3e9, 2.0**32, 5e9, 9.2e18, 9.3e18, 1.8e19, 2e19, 1e30, 3e38, math.inf, 2.0**-8, 2.0**-9, 2.0**-10,
    1.01 * 2.0**-10, 2.0**-16, 2.0**-17, 1.01 * 2.0**-17, 2.0**-18, 2.0**-126, 1 + 2.0**-10 + 2.0**-30,
    1 + 2.0**-8 + 2.0**-30, 259 + 2.0**-40, 2049.0, 2.0**24 + 1,
]  # fmt: skip
WHOLE = [0, 1, -1, 17, 19, 100, 127, -128, 255, 500, -500, 2049, 60000, 65520, -70000, 2**24 + 1, 2**24 + 3]
WHOLE += [2**31 - 1, -(2**31), 2**53 + 1, 2**62 + 2**38, 2**62 + 2**38 + 1, 2**63 - 1, -(2**63)]


def values(dtype):
    """Every number of a dtype of up to sixteen bits, without the subnormal ones that XLA takes for zero."""
    if dtype in FLOAT8:
        return torch.arange(256, dtype=torch.int32).to(torch.uint8).view(dtype)
    if dtype in (torch.float16, torch.bfloat16):
        every = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(dtype)
        return every[(every == 0) | ~(every.abs() < torch.finfo(torch.float32).tiny)]
    if dtype in FLOATS:
        return torch.tensor([*NUMBERS, *(-n for n in NUMBERS), math.nan], dtype=dtype)
    return torch.tensor(WHOLE).to(dtype)


def specified(value, wanted):
    """Return a mask of the values that eager casts alike wherever they stand in a tensor, whatever instruction does it."""
    if wanted == torch.uint32 and value.is_floating_point():
        return (value.double() > -(2.0**31)) & (value.double() < 2.0**32)
    if wanted in (torch.int32, torch.int64, torch.uint64) and value.dtype in FLOAT8:
        return ~value.float().isnan() & (value.float().abs() < 2.0**31)
    return torch.ones(value.shape, dtype=torch.bool)


def readable(value):
    return value.double() if value.dtype.is_floating_point else value


def agree(actual, expected, given):
    kept = specified(given, expected.dtype)
    assert actual.dtype == expected.dtype
    torch.testing.assert_close(readable(actual)[kept], readable(expected)[kept], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_every_cast_is_as_in_eager(source):
    given, wanted = values(source), [dtype for dtype in DTYPES if dtype != source]

    def cast(value):
        return [value.to(dtype) for dtype in wanted]

    compiled = torch.compile(cast, backend="tpu", fullgraph=True, dynamic=False)
    for ours, theirs in zip(compiled(given), cast(given), strict=True):
        agree(ours, theirs, given)


@pytest.mark.slow
@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_every_cast_on_the_device(source):
    given = values(source)
    there = given.to("tpu")
    for dtype in DTYPES:
        agree(there.to(dtype).cpu(), given.to(dtype), given)
        agree(torch.empty(given.shape, dtype=dtype, device="tpu").copy_(there).cpu(), given.to(dtype), given)


TINY = torch.float8_e4m3fn

WRITES = {
    "copy_": lambda x: torch.zeros(3, dtype=TINY).copy_(x),
    "slice": lambda x: torch.zeros(5, dtype=TINY)[1:4].copy_(x),
    "fill_": lambda x: torch.zeros(3, dtype=TINY).fill_(x[1]),
    "integer-fill": lambda x: torch.zeros(3, dtype=torch.int16).fill_(x[1]),
    "integer-slice": lambda x: torch.zeros(5, dtype=torch.int32)[::2].copy_(x),
    "integer-sum": lambda x: x.sum(0, dtype=torch.int32),
    "integer-cumsum": lambda x: x.cumsum(0, dtype=torch.int16),
    "zeros": lambda x: torch.zeros(3, dtype=torch.float8_e8m0fnu).float() + x,
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_casts_inside_of_other_operators(write):
    given = torch.tensor([1.0, 3e9, -1e4])
    actual = torch.compile(write, backend="tpu", fullgraph=True)(given)
    torch.testing.assert_close(readable(actual), readable(write(given)), rtol=0, atol=0)


def test_a_cast_on_the_device_saturates():
    given = torch.tensor([1.0, 500.0, -1e4, math.inf, math.nan])
    torch.testing.assert_close(given.to("tpu").to(TINY).cpu().float(), given.to(TINY).float(), equal_nan=True)
