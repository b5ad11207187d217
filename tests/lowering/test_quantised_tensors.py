"""Tensors of PyTorch's quantised dtypes that begin and end in a graph, against eager PyTorch."""

from __future__ import annotations

import pytest
import torch

import tpu_dynamo

# PyTorch's own, that quantised dtypes are to go.
pytestmark = pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")

inf, nan = float("inf"), float("nan")
# Ties, which go to the even step; both zeros; what saturates; what is no number. Enough for vectors and their rest.
SPECIAL = [0.05, 0.15, -0.05, 0.25, -0.15, inf, -inf, nan, 1e30, -1e30, 3e9, 12.75, 12.85, -0.0, 0.0, 1.0, 2e9, -2e9]
GRIDS = [
    pytest.param(0.1, 3, torch.qint8, id="int8"),
    pytest.param(0.1, -128, torch.qint8, id="int8-least"),
    pytest.param(0.3, 200, torch.quint8, id="uint8"),
    pytest.param(0.1, 3, torch.qint32, id="int32"),
    pytest.param(1e-6, -(2**31), torch.qint32, id="int32-least"),
    pytest.param(0.0, 0, torch.qint8, id="zero-scale"),
    pytest.param(-0.1, 0, torch.qint8, id="negative-scale"),
    pytest.param(inf, 0, torch.quint8, id="infinite-scale"),
]


@pytest.fixture
def values() -> torch.Tensor:
    return torch.cat([torch.tensor(SPECIAL), torch.linspace(-40, 40, 46)]).reshape(8, 8)


@pytest.mark.parametrize(("scale", "zero_point", "dtype"), GRIDS)
def test_values_are_rounded_to_the_grid(matches_eager, values, scale, zero_point, dtype):
    if scale < 0:
        values = values.nan_to_num()  # there eager's nan is the other end
    matches_eager(lambda x: torch.quantize_per_tensor(x, scale, zero_point, dtype).dequantize(), values)


@pytest.mark.parametrize("dtype", [torch.qint8, torch.quint8], ids=str)
def test_grids_may_be_tensors(matches_eager, values, dtype):
    def round_trip(x, scale, zero_point):
        return torch.dequantize(torch.quantize_per_tensor(x, scale, zero_point, dtype))

    matches_eager(round_trip, values, torch.tensor(0.2), torch.tensor(5))


def moved(x):
    q = torch.quantize_per_tensor(x, 0.1, 3, torch.qint8)
    turned = q.t()[1:, :4].unsqueeze(0)
    return turned.dequantize(), q.view(-1).dequantize(), q[2].clone().dequantize() + 1


def multiplied(x):
    q = torch.quantize_per_tensor(x, 0.1, 3, torch.qint8)
    other = torch.quantize_per_tensor(x.sin(), 0.1, 128, torch.quint8)
    return torch.mm(q.dequantize(), other.t().dequantize())


@pytest.mark.parametrize("function", [moved, multiplied], ids=lambda f: f.__name__)
def test_what_is_moved_is_dequantised_too(matches_eager, function):
    matches_eager(function, torch.randn(8, 8))


@pytest.mark.parametrize("shape", [(0, 3), ()], ids=["none", "one"])
def test_sizes_have_no_least(matches_eager, shape):
    matches_eager(lambda x: torch.quantize_per_tensor(x, 0.1, 3, torch.qint8).dequantize(), torch.ones(shape))


def test_a_product_of_both_is_one_of_integers():
    program = tpu_dynamo.compile_for(multiplied, (torch.empty(8, 8),), target="cpu")[0]
    assert "tensor<8x8xi32>" in program.stablehlo


def test_floats_are_dequantised_as_eager_does(matches_eager):
    matches_eager(lambda x: torch.dequantize(x) * 2, torch.randn(3).half())


@pytest.mark.parametrize(
    ("function", "why"),
    [
        pytest.param(lambda x: torch.quantize_per_tensor(x, 0.1, 3, torch.qint8), "torch.qint8, which XLA", id="out"),
        pytest.param(
            lambda x: torch.quantize_per_tensor(x, 0.1, 3, torch.quint8).relu().dequantize(), "PT2E", id="computed"
        ),
        pytest.param(
            lambda x: torch.quantize_per_tensor(x.half(), 0.1, 3, torch.qint8).dequantize(), "float16", id="half"
        ),
        pytest.param(
            lambda x: torch.quantize_per_tensor(x, 0.1, 200, torch.qint8).dequantize(), "zero point 200", id="zero"
        ),
    ],
)
def test_other_quantised_tensors_are_refused_at_their_line(function, why):
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match=f"(?s){why}.*test_quantised_tensors.py"):
        torch.compile(function, backend="tpu", fullgraph=True)(torch.ones(3))


def test_the_device_refuses_quantised_tensors_in_words():
    for call in (
        lambda x: torch.quantize_per_tensor(x, 0.1, 3, torch.qint8),
        lambda x: torch._make_per_tensor_quantized_tensor(x.to(torch.int8), 0.1, 3),
        lambda x: torch.quantize_per_tensor_dynamic(x, torch.qint8, False),
        lambda x: torch.quantize_per_channel(x, torch.ones_like(x), torch.zeros_like(x), 0, torch.qint8),
    ):
        with pytest.raises(NotImplementedError, match="gives a quantized tensor, and the device has"):
            call(torch.ones(3, device="tpu"))
