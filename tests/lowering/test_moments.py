"""Means and variances: as exact by products with ones as by sums, and products only on TPUs."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate, layer_norm

from tpu_dynamo_lowering.kernels.moments import moments, moments_by_products
from tpu_dynamo_lowering.pipeline import lower, prepare

from .graphs import traced


def rows(mean, spread=1.0):
    return mean + spread * torch.randn(16, 300)


@pytest.mark.parametrize(("mean", "spread"), [(0, 1), (1000, 1), (-30000, 1), (1e10, 1e10), (1e-8, 1e-8)])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_moments_by_products_are_as_exact_as_sums(dtype, mean, spread):
    given = jnp.asarray(rows(mean, spread).numpy()).astype(dtype)
    exact = np.asarray(given).astype("float64")
    for number, expected in enumerate([exact.mean(-1, keepdims=True), exact.var(-1, keepdims=True)]):
        by_sums, by_products = (np.asarray(found[number]) - expected for found in moments_of(given))
        # As sums of 300 numbers in other orders are.
        tolerance = 32 * np.finfo("float32").eps * abs(expected).max()
        assert abs(by_products).max() <= 1.1 * abs(by_sums).max() + tolerance


def moments_of(given):
    return moments(given.astype("float32"), (1,)), moments_by_products(given, (1,))


def test_the_variance_of_the_largest_numbers_is_infinite_and_of_nan_is_nan():
    given = jnp.asarray([[3e38, -3e38] * 8, [float("nan"), 1.0] * 8, [0.0] * 16], jnp.bfloat16)
    np.testing.assert_array_equal(moments_by_products(given, (1,))[1][:, 0], [np.inf, np.nan, 0])


@pytest.mark.parametrize(("platform", "products"), [("tpu", 2), ("cpu", 0)])
def test_rows_are_summed_by_products_on_tpus_alone(platform, products):
    given = [torch.randn(4, 300, dtype=torch.bfloat16), torch.ones(300, dtype=torch.bfloat16)]
    graph = prepare(traced(lambda x, weight: layer_norm(x, (300,), weight), *given))
    text = lower(graph, {}, platform=platform, matmul_precision="medium").text()
    assert text.count("stablehlo.dot_general") == products
    # Of what the user asks for his products this is none.
    assert text.count("precision = [HIGHEST, HIGHEST]") == products


def test_weights_of_resampling_are_not_rounded_to_the_precision_of_products():
    def smaller(x):
        return interpolate(x, scale_factor=0.5, mode="bicubic", antialias=True)

    graph = prepare(traced(smaller, torch.randn(1, 1, 8, 8)))
    text = lower(graph, {}, platform="tpu", matmul_precision="medium").text()
    assert "stablehlo.dot_general" in text
    assert text.count("precision = [HIGHEST, HIGHEST]") == text.count("stablehlo.dot_general")
