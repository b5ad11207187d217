"""The operators of quantized_decomposed, of torch.ao's and PT2E's graphs, against eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.ao.quantization.fx._decomposed

q = torch.ops.quantized_decomposed

FLOATS = [torch.float32, torch.bfloat16, torch.float16]
GRIDS = [torch.int8, torch.uint8, torch.int16, torch.int32, torch.float8_e4m3fn, torch.float8_e5m2]
# Ties, which go to the even step; both zeros; what saturates; what is no number.
SPECIAL = [
    0.0,
    -0.0,
    0.25,
    0.75,
    -0.25,
    -1.25,
    0.05,
    -0.15,
    31.6,
    -32.3,
    1e4,
    -1e4,
    torch.inf,
    -torch.inf,
    torch.nan,
    1e-30,
]


def special(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Return special values, then numbers from -40 to 40, in a shape."""
    count = torch.Size(shape).numel()
    values = torch.cat([torch.tensor(SPECIAL), torch.linspace(-40, 40, max(0, count - len(SPECIAL)))])
    return values[:count].reshape(shape).to(dtype)


def ends(dtype: torch.dtype) -> tuple[int, int]:
    """Return the least and the most of a dtype, as quantisers write them."""
    info = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
    return int(info.min), int(info.max)


def same(expected: Any, actual: Any) -> None:
    """Compare to the bit what is quantised; floats to the tolerance of their dtype."""
    for ours, theirs in zip(actual, expected, strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        if theirs.dtype.itemsize == 1 and theirs.dtype.is_floating_point:
            ours, theirs = ours.float(), theirs.float()
        torch.testing.assert_close(ours, theirs, equal_nan=True)


def check(function: Callable[..., Any], *args: Any) -> None:
    """Compare a function, compiled as one graph, with eager."""
    torch._dynamo.reset()
    same(function(*args), torch.compile(function, backend="tpu", fullgraph=True)(*args))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_values_by_tensor(dtype):
    def quantise(x, empty, scale, double, zero):
        found = []
        for grid in GRIDS:
            low, high = ends(grid)
            middle = 3 if low < 0 else 130
            for zero_point in (low, middle, high) if grid.itemsize == 1 else (middle,):
                found.append(q.quantize_per_tensor.default(x, 0.5, zero_point, low, high, grid))
            found += [
                q.quantize_per_tensor.default(x, 0.1, middle, low // 2, high // 2, grid),
                q.quantize_per_tensor.tensor(x, scale, zero, low, high, grid),
                q.quantize_per_tensor.tensor(x, double, zero, low, high, grid),
                q.quantize_per_tensor.tensor2(x, scale, zero, zero - 3, zero + 9, grid),
                q.quantize_per_tensor.default(empty, 0.5, 0, low, high, grid),
            ]
        return found

    zero = torch.tensor(7)
    double = torch.tensor([0.1], dtype=torch.float64)
    check(quantise, special(dtype, 8, 8), torch.empty(0, 3, dtype=dtype), torch.tensor(0.25), double, zero)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_values_of_integers_by_tensor(grid):
    low, high = ends(grid)
    first, last = (low, high) if grid.itemsize == 1 else (-7, 9)

    def dequantise(x, scale, zero):
        found = []
        for out_dtype in (None, torch.float32, torch.bfloat16, torch.float16, torch.float64):
            found += [
                q.dequantize_per_tensor.default(x, 0.1, first, low, high, grid, out_dtype=out_dtype),
                q.dequantize_per_tensor.default(x[:0], 0.1, last, low, high, grid, out_dtype=out_dtype),
                q.dequantize_per_tensor.tensor(x, scale, zero, low, high, grid, out_dtype=out_dtype),
                q.dequantize_per_tensor.tensor2(x, scale, zero, zero, zero, grid, out_dtype=out_dtype),
            ]
        return found

    x = torch.tensor([low, high, 0, 1, 100, 17]).to(grid)
    check(dequantise, x, torch.tensor(0.3), torch.tensor([5]))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_values_by_channel(dtype):
    def quantise(x, scales, zeros):
        found = []
        for grid in GRIDS:
            found.append(q.quantize_per_channel.default(x, scales[1], zeros[1], 1, *ends(grid), grid))
        for axis in (0, 2, -1):
            scale, zero = scales[axis], zeros[axis]
            for given in ((scale, zero.int()), (scale.double(), zero), (scale, zero + 0.5)):
                found.append(q.quantize_per_channel.default(x, *given, axis, -128, 127, torch.int8))
        return found

    x = special(dtype, 4, 3, 6)
    scales = [torch.rand(n) + 0.1 for n in x.shape]
    check(quantise, x, scales, [torch.arange(n) for n in x.shape])


@pytest.mark.parametrize("grid", GRIDS[:4], ids=str)
def test_values_of_integers_by_channel(grid):
    low, high = ends(grid)

    def dequantise(x, scales, zeros):
        found = []
        for out_dtype in (None, torch.bfloat16, torch.float64):
            for given in (scales, scales.double(), scales.bfloat16()):
                found.append(q.dequantize_per_channel.default(x, given, zeros, 1, low, high, grid, out_dtype=out_dtype))
        for zero in (None, zeros.int(), zeros.to(grid), zeros.float()):
            found.append(q.dequantize_per_channel.default(x, scales, zero, 1, low, high, grid))
        return found

    x = torch.tensor([[low, high, 0], [1, 100, 17]]).to(grid)
    check(dequantise, x, torch.tensor([0.3, 1.0, 1e-3]), torch.tensor([0, 5, high]))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_grids_by_tensor(dtype):
    def choose(*values):
        found = []
        for x in values:
            for grid in (torch.int8, torch.uint8, torch.int16):
                low, high = ends(grid)
                found += q.choose_qparams.tensor(x, low, high, 1e-5, grid)
                found += q.choose_qparams.tensor(x, low // 2, high - 1, 0.25, grid)
                found += q.choose_qparams_symmetric.tensor(x, low, high, 1e-5, grid)
        return found

    numbers = torch.randn(5, 7) * 3
    infinite = torch.tensor([1.0, torch.inf]), torch.tensor([-torch.inf, 1.0])
    check(choose, *(x.to(dtype) for x in (numbers, numbers.abs() + 1, -numbers.abs(), torch.zeros(3), *infinite)))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_grids_by_token(dtype):
    def choose(*values):
        found = []
        for x in values:
            found += q.choose_qparams_per_token.default(x, torch.int8)
            found += q.choose_qparams_per_token_asymmetric.default(x, torch.int8)
            found += q._choose_qparams_per_token_asymmetric_impl.default(x, torch.int8)
        return found

    numbers = torch.randn(2, 5, 7) * 3
    check(
        choose,
        *(x.to(dtype) for x in (numbers, numbers[0] * 1e-3, numbers.abs() + 1, torch.zeros(2, 3), torch.ones(0, 3))),
    )
    check(choose, torch.tensor([[torch.inf, 1.0], [1.0, -torch.inf], [torch.nan, 2.0]], dtype=dtype))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_values_by_token(dtype):
    def both(x, scales, zeros):
        found = []
        parameters = ((scales, zeros), (scales.double(), zeros), (scales.to(dtype), zeros.to(dtype)))
        for (given, zero), grid in zip(parameters, (torch.int8, torch.int8, torch.uint8), strict=True):
            stored = q.quantize_per_token.default(x, given, zero, *ends(grid), grid)
            found.append(stored)
            for out_dtype in FLOATS:
                found.append(q.dequantize_per_token.default(stored, given, zero, *ends(grid), grid, out_dtype))
        return found

    x = special(dtype, 2, 4, 8)
    check(both, x, torch.rand(2, 4, 1) + 0.2, torch.arange(8).reshape(2, 4, 1))
    check(both, x[:, :0], torch.rand(2, 0, 1), torch.zeros(2, 0, 1, dtype=torch.int64))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_values_by_group(dtype):
    def both(x, scales, zeros):
        found = []
        for size, columns in ((4, 4), (32, 1)):
            given, zero = scales[:, :columns], zeros[:, :columns]
            stored = q.quantize_per_channel_group.default(x, given, zero, -8, 7, torch.int8, size)
            found.append(stored)
            for shift in (zero, zero.to(torch.int8), None):
                for out_dtype in FLOATS:
                    arguments = (stored, given, shift, -8, 7, torch.int8, size, out_dtype)
                    found.append(q.dequantize_per_channel_group.default(*arguments))
        return found

    x = special(torch.float32, 6, 16).nan_to_num().to(dtype)
    check(both, x, torch.rand(6, 4) + 0.2, torch.arange(24).reshape(6, 4) % 5 - 2)


def test_casts_that_are_not_joined_with_others(matches_eager):
    def convert(x):
        operator = q.convert_element_type.no_fuse
        return operator(x, torch.bfloat16), operator(operator(x, torch.float16), torch.int8)

    matches_eager(convert, torch.tensor([1.5, -3.25, 100.0]))


def test_fake_quantisation_by_channel_and_its_gradient():
    def loss(x, scales, zeros):
        return q.fake_quant_per_channel(x, scales, zeros, 1, -128, 127)

    x, scales = torch.randn(4, 3) * 30, torch.tensor([0.1, 0.2, 0.3])
    zeros = torch.tensor([0, 3, -128])
    found = []
    for function in (loss, torch.compile(loss, backend="tpu", fullgraph=True)):
        given = x.clone().requires_grad_()
        result = function(given, scales, zeros)
        found.append((result.detach(), *torch.autograd.grad(result.sum(), given)))
    same(*found)


def test_no_grid_for_no_values_is_said_in_words():
    with pytest.raises(Exception, match="no grid can be chosen for no values"):
        torch.compile(lambda x: q.choose_qparams.tensor(x, -128, 127, 1e-5, torch.int8), backend="tpu")(torch.empty(0))
