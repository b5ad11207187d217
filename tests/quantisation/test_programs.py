"""Quantised programs as torch-mlir's and Torch-TensorRT's suites have them, compiled, beside eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.ao.quantization.fx._decomposed
from torch import Tensor, nn

import tpu_dynamo

pytestmark = pytest.mark.filterwarnings("ignore")  # that torch.ao.quantization is to go

q = torch.ops.quantized_decomposed
BYTE, SIGNED, SHORT, INT = (0, 255), (-128, 127), (-(2**15), 2**15 - 1), (-(2**31), 2**31 - 1)


def given(dtype: torch.dtype, *shape: int) -> Tensor:
    """Return integers of 8 bits in a dtype."""
    least = 0 if dtype == torch.uint8 else -128
    return torch.randint(least, least + 256, shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def mixed_product(x, y):
    left = q.dequantize_per_tensor(x, 0.03, -66, *SIGNED, torch.int8)
    return left @ q.dequantize_per_tensor(y, 0.025, 160, *BYTE, torch.uint8)


def batched_product(x, y):
    left = q.dequantize_per_tensor(x, 0.0215, -25, *SIGNED, torch.int8)
    return torch.bmm(left, q.dequantize_per_tensor(y, 0.0176, 18, *SIGNED, torch.int8))


def convolution(x, weight, bias):
    x = q.dequantize_per_tensor(x, 0.01, 7, *SIGNED, torch.int8)
    weight = q.dequantize_per_tensor(weight, 0.01, 3, *SIGNED, torch.int8)
    bias = q.dequantize_per_tensor(bias, 1, 0, -1000, 1000, torch.int32)
    result = nn.functional.conv2d(x, weight, bias, groups=x.shape[1] // weight.shape[1])
    return q.quantize_per_tensor(result, 1, 0, *INT, torch.int32)


def convolution_by_channel(x, weight, scales, zero_points):
    x = q.dequantize_per_tensor(x, 0.01, 7, *SIGNED, torch.int8)
    weight = q.dequantize_per_channel(weight, scales, zero_points, 0, *SIGNED, torch.int8)
    return nn.functional.conv2d(x, weight, padding=1)


def convolution_of_16_bits(x, weight):
    x = q.dequantize_per_tensor(x, 0.01, 0, *SHORT, torch.int16)
    weight = q.dequantize_per_tensor(weight, 0.01, 0, *SHORT, torch.int16)
    return q.quantize_per_tensor(nn.functional.conv2d(x, weight), 1e-2, 0, *INT, torch.int32)


def transposed_convolution(x, weight, bias):
    x = q.dequantize_per_tensor(x, 0.01, -25, *SIGNED, torch.int8)
    weight = q.dequantize_per_tensor(weight, 0.01, 50, *SIGNED, torch.int8)
    return torch.ops.aten.convolution(x, weight, bias, [2, 1], [1, 1], [1, 1], True, [0, 0], 1)


def chosen_grids(x):
    scale, zero_point = q.choose_qparams.tensor(x, *SIGNED, 1e-8, torch.int8)
    ends = torch.tensor(-128, dtype=torch.int32), torch.tensor(127, dtype=torch.int32)
    integers = q.quantize_per_tensor.tensor2(x, scale, zero_point, *ends, torch.int8)
    return integers, q.dequantize_per_tensor.tensor2(integers, scale, zero_point, *ends, torch.int8)


def fake_quantised(x):
    values, held = torch.ops.aten.fake_quantize_per_tensor_affine_cachemask(x, 2.0, 0, *SIGNED)
    scales, zero_points = torch.arange(1, 7) * 0.3, torch.arange(6, dtype=torch.int32)
    return values, held, torch.fake_quantize_per_channel_affine(x, scales, zero_points, 0, 0, 15)


def to_and_from_integers(x):
    return torch.quantize_per_tensor(x, 0.04, 11, torch.quint8).dequantize().relu()


def product_of_signs(x, y):
    return torch._int_mm(x, y)


def by_channel_without_zero_points(x, scales):
    return q.dequantize_per_channel(x, scales, None, 1, *BYTE, torch.uint8)


def by_channel_of_bytes(x, scales, zero_points):
    integers = q.quantize_per_channel(x, scales, zero_points, 1, *BYTE, torch.uint8)
    return integers.int(), q.dequantize_per_channel(integers, scales, zero_points, 1, *BYTE, torch.uint8)


def by_one_group(x, scales, zero_points):
    integers = q.quantize_per_channel_group(x, scales, zero_points, *SIGNED, torch.int8, 128)
    grid = scales, zero_points, *SIGNED, torch.int8, 128, torch.float32
    return integers, q.dequantize_per_channel_group(integers, *grid)


def by_token(x):
    scale, zero_point = q.choose_qparams_per_token_asymmetric(x, torch.int8)
    integers = q.quantize_per_token(x, scale, zero_point, *SIGNED, torch.int8)
    return integers, q.dequantize_per_token(integers, scale, zero_point, *SIGNED, torch.int8, torch.float32)


BETWEEN = torch.linspace(-5, 5, 32).reshape(4, 8)
PROGRAMS: list[tuple[Callable[..., Any], tuple[Tensor, ...]]] = [
    (mixed_product, (given(torch.int8, 3, 4), given(torch.uint8, 4, 3))),
    (batched_product, (given(torch.int8, 2, 3, 4), given(torch.int8, 2, 4, 3))),
    (convolution, (given(torch.int8, 2, 4, 7, 8), given(torch.int8, 3, 4, 3, 2), torch.tensor([1, -900, 8]).int())),
    (convolution, (given(torch.int8, 2, 4, 7, 8), given(torch.int8, 4, 2, 3, 2), torch.zeros(4).int())),
    (convolution_by_channel, (given(torch.int8, 2, 4, 7, 8), given(torch.int8, 3, 4, 3, 3), torch.tensor([0.1, 0.2, 0.03]), torch.arange(3))),
    (convolution_of_16_bits, (given(torch.int16, 2, 4, 7, 8), given(torch.int16, 3, 4, 3, 2))),
    (transposed_convolution, (given(torch.int8, 2, 5, 6, 4), given(torch.int8, 5, 7, 3, 2), torch.arange(7.0))),
    (chosen_grids, (torch.linspace(-2, 3, 32).reshape(4, 8),)),
    (product_of_signs, (given(torch.uint8, 32, 16), given(torch.int8, 16, 8))),
    (product_of_signs, (given(torch.int8, 32, 16), given(torch.int8, 16, 8))),
    (by_channel_without_zero_points, (given(torch.uint8, 4, 8), torch.arange(1.0, 9))),
    (by_channel_of_bytes, (BETWEEN, torch.arange(1.0, 9) / 8, torch.arange(128, 136).to(torch.uint8))),
    (by_one_group, (BETWEEN, torch.arange(1.0, 5)[:, None] / 8, torch.arange(-2, 2)[:, None])),
    (by_token, (BETWEEN.reshape(2, 2, 8),)),
    (to_and_from_integers, (torch.linspace(-2, 12, 12).reshape(3, 4),)),
]  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", "tpu"])
@pytest.mark.parametrize(("program", "inputs"), PROGRAMS, ids=lambda each: getattr(each, "__name__", ""))
def test_programs_on_plain_integers(program, inputs, device):
    expected = program(*inputs)
    found = torch.compile(program, backend="tpu", fullgraph=True)(*(each.to(device) for each in inputs))
    torch.testing.assert_close(found, expected, check_device=False, rtol=1e-5, atol=1e-4)


def test_fake_quantisation(matches_eager):
    matches_eager(fake_quantised, torch.linspace(-300, 300, 24).reshape(6, 4))


def made(x):
    return torch.relu(torch.dequantize(torch._make_per_tensor_quantized_tensor(x, 0.0215, 25)))


def product_of_made(x):
    left = torch._make_per_tensor_quantized_tensor(x, 0.0215, -25)
    right = torch._make_per_tensor_quantized_tensor(x.t().contiguous(), 0.0176, 18)
    return torch.mm(torch.dequantize(left), torch.dequantize(right))


def by_channel(x):
    scales, zero_points = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0, 3, -3])
    return torch.quantize_per_channel(x.float(), scales, zero_points, 0, torch.qint8).dequantize() + 1


def dynamic(x):
    return torch.quantize_per_tensor_dynamic(x.float(), torch.qint8, False).dequantize() + 1


class Stubbed(nn.Module):
    """A perceptron between stubs, which `torch.ao.quantization.convert` quantises."""

    def __init__(self):
        super().__init__()
        self.quantize, self.dequantize = torch.ao.quantization.QuantStub(), torch.ao.quantization.DeQuantStub()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.dequantize(self.layers(self.quantize(x.float())))


def stubbed() -> nn.Module:
    """Return a perceptron whose quantised layers hold packed weights."""
    model = Stubbed().eval()
    model.qconfig = torch.ao.quantization.default_qconfig
    torch.ao.quantization.prepare(model, inplace=True)
    model(torch.randn(3, 4))
    return torch.ao.quantization.convert(model)


def packed() -> nn.Module:
    """Return a perceptron whose linear layers choose a grid for their input in each call."""
    layers = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU())
    return torch.ao.quantization.quantize_dynamic(layers.eval(), {nn.Linear}, dtype=torch.qint8)


@pytest.mark.parametrize(
    "make", [made, product_of_made, by_channel, dynamic, stubbed, packed], ids=lambda f: f.__name__
)
def test_what_dynamo_cannot_trace_breaks_the_graph_and_is_explained(make):
    function = make() if make in (stubbed, packed) else make
    x = given(torch.int8, 3, 4)
    x = x.float() if make is packed else x
    with torch.no_grad(), tpu_dynamo.diagnose() as report:
        found = torch.compile(function, backend="tpu")(x)
        torch.testing.assert_close(found, function(x))
    titles = {each.advice.title for each in report.report.breaks if each.advice is not None}
    assert titles & {"quantise into plain integers", "keep the integers and their scale", "quantise by PT2E or torchao"}


def test_stubs_on_the_device_are_refused_in_words():
    with torch.no_grad(), pytest.raises(NotImplementedError, match="gives a quantized tensor, and the device has"):
        torch.compile(stubbed(), backend="tpu")(torch.ones(3, 4, device="tpu"))
