"""Batch normalisation: as exact as eager PyTorch's, whatever the means, and one product and sum in half precision."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.nn.functional import batch_norm

from tpu_dynamo_lowering.pipeline import lower, prepare

from .graphs import traced

pytestmark = pytest.mark.sampled(2)


def normalised(training):
    def normalise(x, mean, variance, weight, bias):
        return batch_norm(x, mean.clone(), variance.clone(), weight, bias, training)

    return normalise


def operands(dtype, of_parameters, mean):
    """Images whose channels have a standard deviation of 1, and statistics and parameters."""
    x = (torch.randn(4, 8, 9, 9) + mean).to(dtype)
    statistics = x.double().mean((0, 2, 3)), x.double().var((0, 2, 3))
    return [x, *(each.to(of_parameters) for each in (*statistics, torch.randn(8), torch.randn(8)))]


@pytest.mark.parametrize("mean", [0, 10, 1000])
@pytest.mark.parametrize("training", [False, True], ids=["in-use", "training"])
@pytest.mark.parametrize("of_parameters", ["own", "float32"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_as_exact_as_eager(dtype, of_parameters, training, mean):
    given = operands(dtype, dtype if of_parameters == "own" else torch.float32, mean)
    exact = normalised(training)(*(each.double() for each in given))
    eager = normalised(training)(*given).double() - exact
    ours = torch.compile(normalised(training), backend="tpu")(*given).double() - exact
    assert ours.square().mean() <= 1.1**2 * eager.square().mean()


@pytest.mark.parametrize("training", [False, True], ids=["in-use", "training"])
@pytest.mark.parametrize("mean", [0, 10, 1000, 30000])
def test_single_precision_is_as_exact_as_eager(training, mean):
    given = operands(torch.float32, torch.float32, mean)
    exact = normalised(training)(*(each.double() for each in given))
    eager = normalised(training)(*given).double() - exact
    ours = torch.compile(normalised(training), backend="tpu")(*given).double() - exact
    assert ours.abs().max() <= 1.1 * eager.abs().max() + 8 * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("training", [False, True], ids=["in-use", "training"])
@pytest.mark.parametrize("mean", [0, 0.3, 3, 1000, 30000])
def test_single_precision_rounds_no_more_often_than_eager(training, mean):
    x = torch.randn(4, 16, 15, 15) + mean * torch.randn(1, 16, 1, 1)
    # Small means, and parameters as they are at first and after some training.
    statistics = x.double().mean((0, 2, 3)).float(), x.double().var((0, 2, 3)).float()
    given = [x, *statistics, 1 + 0.05 * torch.rand(16), 0.05 * torch.rand(16)]
    exact = normalised(training)(*(each.double() for each in given))
    eager = normalised(training)(*given).double() - exact
    ours = torch.compile(normalised(training), backend="tpu")(*given).double() - exact
    assert ours.square().mean() <= 1.05**2 * eager.square().mean()


@pytest.mark.parametrize("special", [float("inf"), -float("inf"), float("nan"), 3e38])
@pytest.mark.parametrize("which", range(5), ids=["input", "mean", "variance", "weight", "bias"])
def test_what_is_not_finite_is_eagers(which, special):
    given = operands(torch.float32, torch.float32, 3)
    given[which][(..., 0, 0) if which == 0 else 2] = special
    torch.testing.assert_close(
        torch.compile(normalised(False), backend="tpu")(*given), normalised(False)(*given), equal_nan=True
    )


def test_in_half_precision_elements_are_multiplied_and_added_once_on_tpus():
    given = operands(torch.bfloat16, torch.float32, 0)
    program = lower(prepare(traced(normalised(False), *given)), {}, platform="tpu")
    of_elements = Counter(
        line.split("stablehlo.")[1].split(" ")[0]
        for line in program.text().splitlines()
        if "stablehlo." in line and "tensor<4x8x9x9xf32>" in line
    )
    assert {name: of_elements[name] for name in ("multiply", "add", "subtract")} == {
        "multiply": 1, "add": 1, "subtract": 0,
    }  # fmt: skip
