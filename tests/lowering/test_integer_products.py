"""Products of dequantised tensors: made of integers, and equal to eager PyTorch's products of floats."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.ao.quantization.fx._decomposed
import torch.nn.functional as F

from tpu_dynamo_lowering.pipeline import lower, trace

q = torch.ops.quantized_decomposed
Tensor = torch.Tensor

SIGNED, UNSIGNED = (-128, 127, torch.int8), (0, 255, torch.uint8)


def stored(dtype: torch.dtype, *shape: int) -> Tensor:
    """Return numbers of a dtype, its ends among them."""
    info = torch.iinfo(dtype)
    values = torch.randint(info.min, info.max + 1, shape, dtype=dtype)
    values.view(-1)[:2] = torch.tensor([info.min, info.max], dtype=dtype)
    return values


def by_tensor(x: Tensor, zero_point: int = 0, out_dtype: torch.dtype | None = None) -> Tensor:
    ends = UNSIGNED if x.dtype == torch.uint8 else SIGNED
    return q.dequantize_per_tensor.default(x, 0.02, zero_point, *ends, out_dtype=out_dtype)


def by_channel(w: Tensor, scales: Tensor, zeros: Tensor | None = None, axis: int = 0) -> Tensor:
    return q.dequantize_per_channel.default(w, scales, zeros, axis, *SIGNED)


def products_in(function: Callable[..., Any], *tensors: Tensor, platform: str = "tpu") -> list[str]:
    """Return the types of the operands of a program's products and convolutions, as `i8xi8`, in their order."""
    module = trace(function, [(t.shape, t.stride(), t.dtype) for t in tensors])
    text = lower(module, {}, platform=platform).text()
    types = r"stablehlo\.(?:dot_general|convolution).*: \(tensor<[^>]*?(\w+)>, tensor<[^>]*?(\w+)>\)"
    return [f"{left.split('x')[-1]}x{right.split('x')[-1]}" for left, right in re.findall(types, text)]


CASES: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {}


def case(*tensors: Tensor) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function and its arguments into the table, by the function's name."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        CASES[function.__name__] = (function, tensors)
        return function

    return enter


torch.manual_seed(0)
SCALES, ZEROS = torch.rand(6) + 0.1, torch.tensor([0, 3, -128, 127, 1, -1])
MATRIX, KERNEL = stored(torch.int8, 6, 16), stored(torch.int8, 6, 4, 3, 3)
BIAS = torch.randn(6)


@case(stored(torch.int8, 5, 16), MATRIX, SCALES)
def matrices_without_zero_points(x, w, scales):
    return by_tensor(x) @ by_channel(w, scales).t()


@case(stored(torch.uint8, 2, 5, 16), MATRIX, SCALES, ZEROS, BIAS)
def a_layer_of_rows_with_zero_points(x, w, scales, zeros, bias):
    return F.linear(by_tensor(x, 130), by_channel(w, scales, zeros), bias)


@case(stored(torch.int8, 3, 16), MATRIX, SCALES.double(), BIAS)
def a_layer_in_half_precision(x, w, scales, bias):
    weight = q.dequantize_per_channel.default(w, scales, None, 0, *SIGNED, out_dtype=torch.bfloat16)
    return F.linear(by_tensor(x, -5, torch.bfloat16), weight, bias.bfloat16())


@case(stored(torch.int8, 5, 16), stored(torch.int8, 16, 6), SCALES, ZEROS)
def channels_along_the_last_dimension(x, w, scales, zeros):
    return by_tensor(x, 7) @ by_channel(w, scales, zeros, 1)


@case(torch.randn(2, 5, 16), MATRIX, SCALES, ZEROS)
def a_grid_that_is_chosen(x, w, scales, zeros):
    scale, zero_point = q.choose_qparams.tensor(x, *SIGNED[:2], 1e-5, torch.int8)
    x = q.quantize_per_tensor.tensor(x, scale, zero_point, *SIGNED)
    return F.linear(q.dequantize_per_tensor.tensor(x, scale, zero_point, *SIGNED), by_channel(w, scales, zeros))


@case(stored(torch.int8, 2, 5, 16), torch.rand(2, 5, 1), torch.arange(10).reshape(2, 5, 1), MATRIX, SCALES)
def a_grid_for_each_token(x, scale, zero_point, w, scales):
    x = q.dequantize_per_token.default(x, scale, zero_point, *SIGNED, torch.float32)
    return F.linear(x, by_channel(w, scales))


@case(stored(torch.int8, 2, 3, 5, 16), stored(torch.uint8, 2, 3, 7, 16))
def attention_scores(x, y):
    return by_tensor(x, 3) @ by_tensor(y, 128).transpose(-1, -2)


@case(stored(torch.int8, 2, 4, 9, 9), KERNEL, SCALES, BIAS)
def a_convolution(x, w, scales, bias):
    return F.conv2d(by_tensor(x), by_channel(w, scales), bias, stride=2, padding=1)


@case(stored(torch.uint8, 2, 4, 9, 9), KERNEL, SCALES, ZEROS, BIAS)
def a_convolution_with_zero_points_and_padding(x, w, scales, zeros, bias):
    return F.conv2d(by_tensor(x, 77), by_channel(w, scales, zeros), bias, padding=(1, 2), dilation=2)


@case(stored(torch.int8, 2, 8, 9), stored(torch.int8, 6, 4, 3), SCALES, ZEROS)
def a_convolution_in_groups(x, w, scales, zeros):
    return F.conv1d(by_tensor(x, -9), by_channel(w, scales, zeros), padding=1, groups=2)


@case(stored(torch.int8, 1, 300, 4, 4), stored(torch.int8, 6, 300, 3, 3), SCALES)
def a_convolution_of_more_terms_than_float32_holds(x, w, scales):
    return F.conv2d(by_tensor(x), by_channel(w, scales))


@pytest.mark.parametrize("name", CASES)
def test_products_of_integers_are_eagers(name):
    function, tensors = CASES[name]
    torch._dynamo.reset()
    actual = torch.compile(function, backend="tpu", fullgraph=True)(*tensors)
    expected = function(*tensors)
    # The sums are exact; eager adds floats, of which the largest is the measure.
    ulp = torch.finfo(expected.dtype).eps
    torch.testing.assert_close(actual, expected, rtol=0, atol=16 * ulp * expected.abs().max().item())
    assert products_in(function, *tensors) == ["i8xi8"] * len(products_in(function, *tensors)) != []


def test_products_of_which_one_operand_is_floats_stay(matches_eager):
    def layer(x, w, scales):
        return x @ by_channel(w, scales).t()

    tensors = (torch.randn(5, 16), MATRIX, SCALES)
    matches_eager(layer, *tensors)
    assert products_in(layer, *tensors) == ["f32xf32"]


@pytest.mark.parametrize(
    "product",
    [
        pytest.param(
            lambda x, y: by_tensor(x) @ by_channel(y, torch.linspace(0.01, 0.1, 16), None, 1).t(), id="scales-of-terms"
        ),
        pytest.param(lambda x, y: torch.addmm(torch.ones(6), by_tensor(x), by_tensor(y).t(), alpha=2), id="factors"),
        pytest.param(
            lambda x, y: by_tensor(x, out_dtype=torch.float64) @ by_tensor(y, 0, torch.float64).t(), id="double"
        ),
        pytest.param(lambda x, y: by_tensor(x, -300) @ by_tensor(y).t(), id="zero-point-outside"),
        pytest.param(lambda x, y: by_tensor(x[:0]) @ by_tensor(y).t(), id="empty"),
    ],
)
def test_products_that_integers_cannot_make_stay(matches_eager, product):
    matches_eager(product, stored(torch.int8, 5, 16), MATRIX)
    assert "i8xi8" not in products_in(product, stored(torch.int8, 5, 16), MATRIX)
