"""Extremes of what a norm scales: reduced before it scales, to the last place of the dtype."""

from __future__ import annotations

import pytest
import torch

from tpu_dynamo_lowering.pipeline import fake_mode
from tpu_dynamo_lowering.row_extremes import reduce_before_scaling

from .graphs import traced

aten = torch.ops.aten


def norm(x, weight, eps=1e-6):
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


def of_rows(x, weight):
    value = norm(x, weight)
    return value.amin([2], True), value[:, 0:].amax([2], True), value


def without_weight(x, weight):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True))).to(x.dtype).amax([-1], True)


def of_columns(x, weight):
    return norm(x, weight).amax([1], True)


def of_all(x, weight):
    return norm(x, weight).amax()


def without_dimension(x, weight):
    return norm(x, weight).amax([2])


def by_a_sum(x, weight):
    wide = x.float()
    return (wide * wide.sum(-1, keepdim=True)).to(x.dtype).amax([2], True)


CASES = {
    of_rows: True, without_weight: True, of_columns: False, of_all: False, without_dimension: False, by_a_sum: False,
}  # fmt: skip


@pytest.mark.parametrize(("function", "moved"), CASES.items(), ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_extremes_of_rows_are_reduced_before_a_norm_scales_them(function, moved, dtype):
    x, weight = torch.randn(2, 5, 16).to(dtype) * 3, torch.randn(16).to(dtype)
    graph = traced(function, x, weight)
    scaled = {node for node in graph.graph.nodes if node.target in (aten.amin.default, aten.amax.default)}
    reduce_before_scaling(graph.graph, fake_mode())
    graph.recompile()
    assert scaled.isdisjoint(graph.graph.nodes) == moved
    expected = function(x, weight)
    rtol = 1e-6 if dtype == torch.float32 else 2**-7
    expected = expected if isinstance(expected, tuple) else (expected,)
    torch.testing.assert_close(tuple(graph(x, weight)), expected, rtol=rtol, atol=0)


def test_a_row_that_is_negative_stays():
    def function(x):
        return (x * -torch.rsqrt(x.pow(2).sum(-1, keepdim=True))).amax([1], True)

    x = torch.randn(3, 4)
    graph = traced(function, x)
    reduce_before_scaling(graph.graph, fake_mode())
    graph.recompile()
    torch.testing.assert_close(graph(x)[0], function(x))
