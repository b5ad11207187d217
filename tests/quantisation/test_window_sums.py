"""Convolutions of integers whose weights have zero points: the values are those of exact integers."""

from __future__ import annotations

import jax.numpy as jnp
import pytest
import torch

from tpu_dynamo_lowering.kernels.integer_products import integer_convolution
from tpu_dynamo_lowering.target import ANY, Target


@pytest.mark.parametrize("target", [ANY, Target("tpu")], ids=["any", "tpu"])
@pytest.mark.parametrize("shifted", [False, True], ids=["symmetric-input", "shifted-input"])
@pytest.mark.parametrize(
    ("input", "weight", "stride", "padding", "dilation", "groups"),
    [
        pytest.param((2, 6, 9, 8), (4, 6, 3, 3), (1, 1), (1, 1), (1, 1), 1, id="images"),
        pytest.param((2, 6, 11, 9), (4, 3, 3, 2), (2, 1), (2, 1), (1, 2), 2, id="groups-and-dilation"),
        pytest.param((1, 4, 20), (3, 4, 5), (3,), (2,), (2,), 1, id="one-dimension"),
        pytest.param((1, 2, 5, 6, 4), (2, 1, 2, 2, 2), (1, 2, 1), (1, 0, 1), (1, 1, 1), 2, id="three-dimensions"),
    ],
)
def test_zero_points_of_weights_are_taken_off(input, weight, stride, padding, dilation, groups, shifted, target):
    torch.manual_seed(0)
    x = torch.randint(-128, 128, input, dtype=torch.int8)
    w = torch.randint(-128, 128, weight, dtype=torch.int8)
    first = torch.tensor([7], dtype=torch.int32) if shifted else None
    second = torch.randint(-20, 20, (weight[0],), dtype=torch.int32)
    left = x.double() - (first.double() if first is not None else 0)
    right = w.double() - second.double().reshape(-1, *(1,) * (w.ndim - 1))
    nothing = (0,) * len(stride)
    expected = torch.ops.aten.convolution(left, right, None, stride, padding, dilation, False, nothing, groups)
    given = [None if value is None else jnp.asarray(value.numpy()) for value in (x, w, first, second)]
    found = integer_convolution(*given, stride, padding, dilation, groups, compiled_for=target)
    assert torch.equal(torch.tensor(found.tolist(), dtype=torch.float64), expected)
