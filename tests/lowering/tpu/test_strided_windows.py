"""Convolutions in blocks of pixels on TPUs: the values are those of eager PyTorch."""

from __future__ import annotations

import jax.numpy as jnp
import pytest
import torch

from tpu_dynamo_lowering.kernels.convolution import convolution
from tpu_dynamo_lowering.kernels.strided_windows import suits_blocks
from tpu_dynamo_lowering.target import Target

TPU = Target("tpu")
# Input, weight, stride, padding.
CASES = [
    pytest.param((2, 3, 32, 32), (8, 3, 7, 7), (2, 2), (3, 3), id="stem"),
    pytest.param((2, 3, 31, 18), (8, 3, 7, 5), (2, 3), (3, 1), id="odd-sizes"),
    pytest.param((1, 3, 30, 30), (4, 3, 11, 11), (4, 4), (2, 2), id="rows-left-over"),
    pytest.param((2, 1, 50), (4, 1, 10), (5,), (0,), id="one-dimension"),
    pytest.param((1, 2, 5, 9, 9), (3, 2, 3, 3, 3), (2, 2, 2), (1, 0, 1), id="three-dimensions"),
    pytest.param((1, 3, 9, 9), (3, 3, 3, 3), (2, 2), (0, 0), id="no-padding"),
]


@pytest.mark.parametrize(("input", "weight", "stride", "padding"), CASES)
def test_blocks_convolve_as_eager_does(input, weight, stride, padding):
    torch.manual_seed(0)
    x, w, bias = torch.randn(input), torch.randn(weight), torch.randn(weight[0])
    one, nothing = (1,) * len(stride), (0,) * len(stride)
    given = (stride, padding, one, False, nothing, 1)
    expected = torch.ops.aten.convolution.default(x, w, bias, *given)
    arrays = [jnp.asarray(tensor.numpy()) for tensor in (x, w)]
    assert suits_blocks(*arrays, stride, one, 1)
    found = convolution(*arrays, jnp.asarray(bias.numpy()), *given, compiled_for=TPU)
    torch.testing.assert_close(torch.tensor(found.tolist()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("input", "weight", "stride", "dilation", "groups"),
    [
        pytest.param((2, 64, 9, 9), (8, 64, 3, 3), (2, 2), (1, 1), 1, id="many-channels"),
        pytest.param((2, 3, 9, 9), (8, 3, 3, 3), (1, 1), (1, 1), 1, id="no-stride"),
        pytest.param((2, 3, 32, 32), (8, 3, 4, 4), (4, 4), (1, 1), 1, id="patches"),
        pytest.param((2, 3, 32, 32), (8, 3, 3, 3), (2, 2), (2, 2), 1, id="dilated"),
        pytest.param((2, 4, 32, 32), (8, 2, 3, 3), (2, 2), (1, 1), 2, id="groups"),
    ],
)
def test_other_convolutions_stay_as_they_are(input, weight, stride, dilation, groups):
    assert not suits_blocks(jnp.zeros(input), jnp.zeros(weight), stride, dilation, groups)
