"""Convolutions that bring a weight to a TPU's order first: the values are those of eager PyTorch."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest
import torch

from tpu_dynamo_lowering.kernels.convolution import convolution, suits_reordering
from tpu_dynamo_lowering.target import Target

TPU = Target("tpu")
# Input, weight, stride, padding, dilation.
CASES = [
    pytest.param((2, 16, 12, 12), (4, 16, 3, 3), (1, 1), (1, 1), (1, 1), id="images"),
    pytest.param((2, 16, 13, 9), (4, 16, 3, 2), (2, 1), (1, 0), (1, 2), id="stride-and-dilation"),
    pytest.param((3, 5, 80), (2, 5, 4), (1,), (3,), (2,), id="one-dimension"),
    pytest.param((1, 3, 7, 8, 9), (2, 3, 2, 3, 1), (1, 1, 1), (0, 1, 0), (1, 1, 1), id="three-dimensions"),
]


def arrays(*tensors: torch.Tensor) -> list[Any]:
    return [jnp.asarray(tensor.numpy()) for tensor in tensors]


@pytest.mark.parametrize(("input", "weight", "stride", "padding", "dilation"), CASES)
def test_a_reordered_weight_convolves_as_eager_does(input, weight, stride, padding, dilation):
    torch.manual_seed(0)
    x, w, bias = torch.randn(input), torch.randn(weight), torch.randn(weight[0])
    given: Any = (stride, padding, dilation, False, (0,) * len(stride), 1)
    expected = torch.ops.aten.convolution.default(x, w, bias, *given)
    assert suits_reordering(*arrays(x, w), 1)
    found = jax.jit(lambda *a: convolution(*a, *given, compiled_for=TPU))(*arrays(x, w, bias))
    torch.testing.assert_close(torch.tensor(found.tolist()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("input", "weight", "groups"),
    [
        pytest.param((16, 128, 28, 28), (128, 128, 3, 3), 1, id="full-registers"),
        pytest.param((16, 64, 56, 56), (64, 64, 1, 1), 1, id="a-product"),
        pytest.param((16, 64, 56, 56), (64, 32, 3, 3), 2, id="groups"),
        pytest.param((1, 64, 8, 8), (64, 64, 3, 3), 1, id="a-weight-as-large-as-the-image"),
    ],
)
def test_other_weights_stay_as_they_are(input, weight, groups):
    assert not suits_reordering(jnp.zeros(input), jnp.zeros(weight), groups)
