"""Running sums of repeated numbers under a triangle of zeros: as exact as eager's, and never a table to add up."""

from __future__ import annotations

import re

import pytest
import torch

from tpu_dynamo_lowering import lower, prepare

from .graphs import traced

INF = float("inf")


def triangle(rows, columns, diagonal):
    return torch.ones(rows, columns, dtype=torch.bool).tril(-diagonal)


def of_rows(x):
    """Write the sums as transformers does for Mamba-2."""
    n = x.shape[-1]
    return x[..., None].expand(*x.shape, n).masked_fill(~triangle(n, n, 1), 0).cumsum(-2)


def with_the_diagonal(x):
    n = x.shape[-1]
    return torch.where(triangle(n, n, 0), x[..., None].expand(*x.shape, n), torch.zeros(())).cumsum(-2)


def of_columns(x):
    n = x.shape[-1]
    return x[..., None, :].expand(*x.shape[:-1], n, n).masked_fill(triangle(n, n, 3).T.logical_not(), 0).cumsum(-1)


def of_few_columns(x):
    n = x.shape[-1]
    return x[..., None].expand(*x.shape, 3).masked_fill(~triangle(n, 3, 2), 0).cumsum(-2)


def of_more_columns(x):
    n = x.shape[-1]
    return x[..., None].expand(*x.shape, n + 9).masked_fill(~triangle(n, n + 9, 0), 0).cumsum(-2)


def of_the_last_alone(x):
    n = x.shape[-1]
    return x[..., None].expand(*x.shape, n).masked_fill(~triangle(n, n, n - 1), 0).cumsum(-2)


def along_the_first_dimension(x):
    n = x.shape[0]
    mask = triangle(n, n, 1)[:, None, :].expand(n, x.shape[1], n)
    return x[:, :, None].expand(*x.shape, n).masked_fill(~mask[:, :1], 0).cumsum(0)


ALL = [
    of_rows, with_the_diagonal, of_columns, of_few_columns, of_more_columns, of_the_last_alone,
    along_the_first_dimension,
]  # fmt: skip


def is_named(function, x, platform="tpu"):
    return "sums_between" in lower(prepare(traced(function, x)), {}, platform=platform).text()


def all_of_them(x):
    return tuple(function(x) for function in ALL)


@pytest.mark.parametrize(
    ("dtype", "length"),
    [
        (torch.float32, 1), (torch.float32, 3), (torch.float32, 40), (torch.float64, 9), (torch.bfloat16, 12),
        (torch.float16, 17),
    ],
    ids=str,
)  # fmt: skip
def test_sums_are_those_of_eager(dtype, length, matches_eager):
    torch.manual_seed(0)
    matches_eager(all_of_them, torch.randn(length, length).to(dtype))


@pytest.mark.parametrize("platform", ["tpu", "cpu"])
@pytest.mark.parametrize("function", ALL, ids=lambda f: f.__name__)
def test_they_are_said_as_what_they_are(function, platform):
    assert is_named(function, torch.randn(12, 12), platform)


def test_a_program_holds_no_running_sum_of_the_table():
    x = torch.randn(2, 64)
    text = lower(prepare(traced(of_rows, x)), {}, platform="tpu").text()
    shapes = re.findall(r'"stablehlo.reduce_window".*?-> tensor<([x0-9]+)xf32>', text, re.DOTALL)
    assert shapes == ["2x8x64"]


def test_large_sums_before_take_no_digits():
    torch.manual_seed(0)
    x = torch.rand(40, 40)
    x[0, :2], x[1, 3], x[1, 20] = torch.tensor([1e30, -1e4]), 1e12, -1e20
    for found, exact in zip(torch.compile(all_of_them, backend="tpu")(x), all_of_them(x.double()), strict=True):
        between = exact.abs() < 1e3
        assert between.any()
        assert ((found.double() - exact).abs()[between] <= 4e-7 * exact.abs()[between]).all()


def test_errors_are_not_larger_than_those_of_float32():
    torch.manual_seed(0)
    x = -torch.rand(4, 256) * torch.logspace(-6, 4, 4)[:, None]
    exact = of_rows(x.double())
    found = torch.compile(of_rows, backend="tpu")(x).double()
    assert ((found - exact).abs() <= 3e-7 * exact.abs()).all()


@pytest.mark.parametrize("special", [INF, -INF, float("nan"), 3e38], ids=str)
def test_what_is_not_finite_reaches_only_its_own_sums(special, matches_eager):
    x = torch.arange(20.0).repeat(20, 1)
    x[3, [2, 3, 17]] = special
    x[[2, 9, 10], 5] = special
    x[7, 4], x[7, 11] = INF, -INF
    matches_eager(all_of_them, x)


def test_gradients_are_those_of_eager():
    weights = torch.randn(20, 20)
    given = [torch.linspace(-1, 1, 20).requires_grad_() for _ in range(2)]
    for function, x in zip((of_rows, torch.compile(of_rows, backend="tpu")), given, strict=True):
        (function(x) * weights).sum().backward()
    torch.testing.assert_close(given[1].grad, given[0].grad)


def one_missing(x):
    mask = triangle(12, 12, 1) & (torch.arange(144).reshape(12, 12) != 62)
    return x[..., None].expand(*x.shape, 12).masked_fill(~mask, 0).cumsum(-2)


def across_the_rows(x):
    return x[..., None].expand(*x.shape, 12).masked_fill(~triangle(12, 12, 1), 0).cumsum(-1)


def other_numbers(x):
    return x[..., None].expand(*x.shape, 12).masked_fill(~triangle(12, 12, 1), 1).cumsum(-2)


def above_the_diagonal(x):
    return x[..., None].expand(*x.shape, 12).masked_fill(~triangle(12, 12, -2), 0).cumsum(-2)


def different_masks(x):
    mask = torch.stack((triangle(12, 12, 1), triangle(12, 12, 2)))
    return x[..., None].expand(*x.shape, 12).masked_fill(~mask, 0).cumsum(-2)


def in_double(x):
    masked = x[..., None].expand(*x.shape, 12).masked_fill(~triangle(12, 12, 1), 0)
    return masked.cumsum(-2, dtype=torch.float64)


def of_different_rows(x):
    return x[:, None].expand(2, 12, 12).masked_fill(~triangle(12, 12, 1), 0).cumsum(0)


def of_no_dimensions(x):
    return torch.where(torch.ones((), dtype=torch.bool), x[0, 0].expand(()), torch.zeros(())).cumsum(0)


OTHERS = [
    one_missing, across_the_rows, other_numbers, above_the_diagonal, different_masks, in_double, of_different_rows,
    of_no_dimensions,
]  # fmt: skip


@pytest.mark.parametrize("function", OTHERS, ids=lambda f: f.__name__)
def test_other_sums_stay_as_they_are(function, matches_eager):
    x = torch.randn(2, 12)
    assert not is_named(function, x)
    matches_eager(function, x)
