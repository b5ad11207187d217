"""Products and convolutions of 64-bit integers as a TPU computes them: equal to eager's, modulo 2^64."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tpu_dynamo_lowering.tpu import integers

pytestmark = pytest.mark.sampled(4)

LEAST, MOST = torch.iinfo(torch.int64).min, torch.iinfo(torch.int64).max
functional = torch.nn.functional


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    """Integers of every size and both signs, the extremes among them."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(LEAST, MOST, shape, generator=generator)
    kind = torch.randint(0, 5, shape, generator=generator)
    return torch.where(kind == 0, LEAST, torch.where(kind == 1, MOST, torch.where(kind == 2, values >> 40, values)))


@pytest.fixture(params=["elementwise", "bytes", "blocks"])
def form(request, monkeypatch):
    """Every way to a product, whatever the sizes are."""
    if request.param != "elementwise":
        monkeypatch.setattr(integers, "_FEW", 0)
    if request.param == "blocks":
        monkeypatch.setattr(integers, "_TERMS", 4)
        monkeypatch.setattr(integers, "_BLOCK", 16)


PRODUCTS = {
    "mm": (torch.mm, (5, 7), (7, 6)),
    "mv": (torch.mv, (5, 7), (7,)),
    "dot": (torch.dot, (9,), (9,)),
    "bmm": (torch.bmm, (3, 4, 5), (3, 5, 2)),
    "matmul": (torch.matmul, (2, 1, 4, 5), (3, 5, 6)),
    "einsum": (lambda x, y: torch.einsum("abcd,deac->abe", x, y), (3, 2, 2, 3), (3, 2, 3, 2)),
    "tensordot": (lambda x, y: torch.tensordot(x, y, 1), (3, 4, 2), (2, 3, 2)),
    "addmm": (lambda x, y: torch.addmm(y[:1, :1], x, y, beta=-3, alpha=5), (4, 6), (6, 3)),
    "nothing to sum": (torch.mm, (3, 0), (0, 2)),
    "no rows": (torch.mm, (0, 3), (3, 2)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_are_exact(matches_eager_as_for_a_tpu, form, name):
    function, left, right = PRODUCTS[name]
    matches_eager_as_for_a_tpu(function, drawn(*left), drawn(*right, seed=1))


CONVOLUTIONS = {
    "one dimension": (functional.conv1d, (2, 3, 11), (4, 3, 3), {}),
    "groups, stride, padding": (functional.conv1d, (2, 4, 9), (6, 2, 3), {"groups": 2, "stride": 2, "padding": 1}),
    "two dimensions, dilated": (functional.conv2d, (2, 3, 8, 9), (4, 3, 3, 2), {"dilation": 2, "padding": (1, 0)}),
    "three dimensions": (functional.conv3d, (1, 2, 4, 5, 6), (3, 2, 2, 2, 2), {"stride": (1, 2, 1)}),
    "depthwise": (functional.conv2d, (1, 4, 6, 6), (4, 1, 3, 3), {"groups": 4}),
    "transposed": (
        functional.conv_transpose2d,
        (2, 4, 5, 4),
        (4, 3, 3, 3),
        {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2},
    ),
    "time first": (lambda x, w: torch.conv_tbc(x, w, w[0, 0]), (7, 2, 3), (3, 3, 4), {}),
}


@pytest.mark.parametrize("small", [False, True], ids=["whole", "blocks"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_are_exact(matches_eager_as_for_a_tpu, monkeypatch, name, small):
    function, left, right, options = CONVOLUTIONS[name]
    if small:
        monkeypatch.setattr(integers, "_TERMS", 4)
        monkeypatch.setattr(integers, "_BLOCK", 16)
    matches_eager_as_for_a_tpu(lambda x, w: function(x, w, **options), drawn(*left), drawn(*right, seed=1))


def test_unsigned_integers_too(form):
    x, y = drawn(4, 7), drawn(7, 3, seed=1)
    with jax.enable_x64(True):
        left, right = (jax.numpy.asarray(each.numpy().astype(np.uint64)) for each in (x, y))
        product = integers.dot_general(left, right, (((1,), (0,)), ((), ())))
    assert product.dtype == np.uint64
    assert np.array_equal(np.asarray(product).astype(np.int64), (x @ y).numpy())


@pytest.mark.slow
@given(st.integers(1, 40), st.integers(1, 20_000), st.integers(1, 40), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_products_of_any_size_are_exact(m, k, n, seed):
    x, y = drawn(m, k, seed=seed), drawn(k, n, seed=seed + 1)
    with jax.enable_x64(True):
        product = integers.dot_general(
            jax.numpy.asarray(x.numpy()), jax.numpy.asarray(y.numpy()), (((1,), (0,)), ((), ()))
        )
    assert np.array_equal(np.asarray(product), (x @ y).numpy())


def test_the_largest_sum_of_bytes_does_not_overflow():
    x = torch.full((2, integers._TERMS), -1)
    with jax.enable_x64(True):
        left = jax.numpy.asarray(x.numpy()).astype(np.uint64)
        product = integers._product_of_bytes(left, left.T)
    assert np.array_equal(np.asarray(product).astype(np.int64), (x @ x.T).numpy())
