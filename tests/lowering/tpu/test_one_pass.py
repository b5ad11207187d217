"""Training on TPUs: statistics in one pass, and gradients of maxima that are looked for again, beside eager PyTorch."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import pytest
import torch

from tpu_dynamo_lowering import lower, prepare
from tpu_dynamo_lowering.kernels.batch_norm import batch_norm_functional
from tpu_dynamo_lowering.ops import TABLE
from tpu_dynamo_lowering.target import Target

from ..graphs import traced

aten = torch.ops.aten
TPU = Target("tpu")


def array(value: torch.Tensor) -> Any:
    return jnp.asarray(value.float().numpy()).astype(str(value.dtype).split(".")[1])


def tensor(value: Any) -> torch.Tensor:
    return torch.tensor(value.astype(jnp.float32).tolist(), dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("mean", "away"), [(0, 0), (3, 3), (100, -100), (300, -300), (1000, 5), (1000, 50)])
def test_statistics_in_one_pass_are_as_exact_as_eager(dtype, mean, away):
    torch.manual_seed(0)
    x = (torch.randn(8, 4, 20, 20) + mean).to(dtype)
    weight, bias, variance = (torch.randn(4).to(dtype) for _ in range(3))
    running = (x.double().mean((0, 2, 3)) + away).to(dtype)
    given = x, weight, bias, running, variance.abs(), True, 0.1, 1e-5
    exact = aten._native_batch_norm_legit_functional.default(*(each.double() for each in given[:5]), *given[5:])[0]
    eager = aten._native_batch_norm_legit_functional.default(*given)[0].double() - exact
    arrays = [array(each) for each in given[:5]]
    found = batch_norm_functional(*arrays, *given[5:], compiled_for=TPU)[0].astype(arrays[0].dtype)
    ours = tensor(found) - exact
    assert ours.square().mean() <= 1.1**2 * eager.square().mean()


POOLS = [
    pytest.param((2, 3, 13, 10), (3, 3), (2, 2), (1, 1), False, id="overlapping"),
    pytest.param((2, 3, 13, 10), (2, 2), (2, 2), (0, 0), True, id="ceil"),
    pytest.param((2, 3, 13, 10), (5, 4), (1, 3), (2, 2), False, id="wide"),
    pytest.param((2, 3, 16, 16), (7, 7), (7, 7), (0, 0), False, id="many"),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("shape", "kernel", "stride", "padding", "ceil"), POOLS)
@pytest.mark.parametrize("special", [0.0, float("inf"), -float("inf"), float("nan")], ids=str)
def test_gradients_of_maxima_are_those_of_eager(shape, kernel, stride, padding, ceil, special, dtype):
    torch.manual_seed(0)
    x = torch.randint(-4, 4, shape).to(dtype)  # with equal values in windows
    x[:, :, 3, 4] = special
    if special == -float("inf"):
        x[0] = special
    given: Any = kernel, stride, padding, (1, 1), ceil
    values, places = aten.max_pool2d_with_indices.default(x, *given)
    gradient = torch.randn(values.shape).to(dtype)
    backward = aten.max_pool2d_with_indices_backward.default
    expected = backward(gradient, x, *given, places)
    kernel_of = TABLE[backward].function
    found = kernel_of(array(gradient), array(x), *given, jnp.asarray(places.numpy()), compiled_for=TPU)
    torch.testing.assert_close(tensor(found), expected.double(), rtol=1e-2, atol=1e-2)


def test_a_program_for_a_tpu_neither_pads_nor_reads_places():
    def step(x, gradient):
        values, places = aten.max_pool2d_with_indices.default(x, [3, 3], [2, 2], [1, 1])
        return values, aten.max_pool2d_with_indices_backward.default(
            gradient, x, [3, 3], [2, 2], [1, 1], [1, 1], False, places
        )

    graph = prepare(traced(step, torch.randn(2, 3, 8, 8), torch.randn(2, 3, 4, 4)))
    of_a_tpu, of_a_cpu = (lower(graph, {}, platform=each).text() for each in ("tpu", "cpu"))
    assert of_a_tpu.count("stablehlo.select_and_scatter") == 1
    assert of_a_cpu.count("stablehlo.select_and_scatter") == 0


@pytest.mark.parametrize("lost", [float("inf"), float("nan")], ids=str)
def test_running_means_that_are_lost_do_not_reach_the_output(lost):
    x = torch.randn(4, 2, 5, 5).to(torch.bfloat16)
    weight, bias, variance, running = torch.ones(4, 2).to(torch.bfloat16)
    running[0] = lost
    given = x, weight, bias, running, variance, True, 0.1, 1e-5
    expected = aten._native_batch_norm_legit_functional.default(*given)[0]
    arrays = [array(each) for each in given[:5]]
    found = tensor(batch_norm_functional(*arrays, *given[5:], compiled_for=TPU)[0].astype("bfloat16"))
    torch.testing.assert_close(found, expected.double(), rtol=2e-2, atol=2e-2)
