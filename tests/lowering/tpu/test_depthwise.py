"""Convolutions of each channel by itself, shifted and added on TPUs: values and gradients are those of eager PyTorch."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import pytest
import torch

from tpu_dynamo_lowering import lower, prepare
from tpu_dynamo_lowering.kernels.convolution import convolution, convolution_backward
from tpu_dynamo_lowering.kernels.depthwise import suits_shifts
from tpu_dynamo_lowering.target import Target

from ..graphs import traced

TPU = Target("tpu")
# Input, kernel, padding, dilation.
CASES = [
    pytest.param((2, 6, 20), (4,), (3,), (1,), id="causal"),
    pytest.param((2, 6, 20), (31,), (15,), (1,), id="long"),
    pytest.param((2, 6, 20), (3,), (4,), (3,), id="dilated"),
    pytest.param((2, 6, 20), (1,), (2,), (1,), id="padded-by-more-than-the-kernel"),
    pytest.param((2, 6, 9, 7), (3, 3), (1, 1), (1, 1), id="images"),
    pytest.param((2, 6, 9, 7), (2, 3), (0, 2), (2, 1), id="images-dilated"),
]


def arrays(*tensors: torch.Tensor) -> list[Any]:
    return [jnp.asarray(tensor.float().numpy()).astype(str(tensor.dtype).split(".")[1]) for tensor in tensors]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("shape", "kernel", "padding", "dilation"), CASES)
def test_shifts_convolve_as_eager_does(shape, kernel, padding, dilation, dtype):
    torch.manual_seed(0)
    x, w, bias = (torch.randn(each).to(dtype) for each in (shape, (shape[1], 1, *kernel), (shape[1],)))
    one = (1,) * len(kernel)
    given: Any = (one, padding, dilation, False, (0,) * len(one), shape[1])
    assert suits_shifts(*arrays(x, w), one, shape[1])
    expected = torch.ops.aten.convolution.default(x, w, bias, *given)
    found = convolution(*arrays(x, w, bias), *given, compiled_for=TPU).astype(jnp.float32)
    close(found, expected)
    gradient = torch.randn(expected.shape).to(dtype)
    mask = [True, True, True]
    expected = torch.ops.aten.convolution_backward.default(gradient, x, w, [shape[1]], *given, mask)
    found = convolution_backward(*arrays(gradient, x, w), [shape[1]], *given, mask, compiled_for=TPU)
    for one_found, one_expected in zip(found, expected, strict=True):
        close(one_found.astype(jnp.float32), one_expected)


def close(found: Any, expected: torch.Tensor) -> None:
    tolerance = 1e-4 if expected.dtype == torch.float32 else 2e-2
    scale = expected.float().abs().max().item()
    torch.testing.assert_close(
        torch.tensor(found.tolist()), expected.float(), rtol=tolerance, atol=tolerance * max(scale, 1)
    )


def test_a_program_for_a_tpu_has_no_convolution_of_single_channels():
    def step(x, w):
        return torch.nn.functional.conv1d(x, w, padding=3, groups=6)[..., :-3]

    graph = prepare(traced(step, torch.randn(2, 6, 20), torch.randn(6, 1, 4)))
    counts = [lower(graph, {}, platform=each).text().count("stablehlo.convolution") for each in ("tpu", "cpu")]
    assert counts == [0, 1]


@pytest.mark.parametrize(
    ("input", "weight", "stride", "groups"),
    [
        pytest.param((2, 6, 20), (12, 1, 4), (1,), 6, id="several-results-a-channel"),
        pytest.param((2, 6, 20), (6, 2, 4), (1,), 3, id="channels-together"),
        pytest.param((2, 6, 20), (6, 1, 4), (2,), 6, id="a-stride"),
        pytest.param((2, 6, 20, 20), (6, 1, 7, 7), (1, 1), 6, id="large-kernels"),
        pytest.param((2, 6, 9, 9, 9), (6, 1, 2, 2, 2), (1, 1, 1), 6, id="three-dimensions"),
    ],
)
def test_other_convolutions_stay_as_they_are(input, weight, stride, groups):
    assert not suits_shifts(jnp.zeros(input), jnp.zeros(weight), stride, groups)
