"""Gradients of tied tables: scattered into the product's gradient, the same values."""

from __future__ import annotations

import pytest
import torch

from tpu_dynamo_lowering.pipeline import fake_mode
from tpu_dynamo_lowering.tied_tables import add_into_products

from .graphs import traced

aten = torch.ops.aten


def rows_first(product, grad, indices):
    return aten.embedding_dense_backward(grad, indices, 5, -1, False) + product


def rows_last(product, grad, indices):
    return product + aten.embedding_dense_backward(grad, indices, 5, -1, False)


def padded(product, grad, indices):
    return product + aten.embedding_dense_backward(grad, indices, 5, 2, False)


def by_frequency(product, grad, indices):
    return product + aten.embedding_dense_backward(grad, indices, 5, -1, True)


def with_a_factor(product, grad, indices):
    return torch.add(product, aten.embedding_dense_backward(grad, indices, 5, -1, False), alpha=2)


def read_elsewhere(product, grad, indices):
    rows = aten.embedding_dense_backward(grad, indices, 5, -1, False)
    return product + rows, rows * 2


CASES = {
    rows_first: True, rows_last: True, padded: False, by_frequency: False, with_a_factor: False, read_elsewhere: False,
}  # fmt: skip


@pytest.mark.parametrize(("function", "scattered"), CASES.items(), ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gradients_of_rows_are_scattered_into_the_product(function, scattered, dtype):
    given = torch.randn(5, 4).to(dtype), torch.randn(2, 3, 4).to(dtype), torch.tensor([[0, 2, 2], [4, 2, 1]])
    graph = traced(function, *given)
    add_into_products(graph.graph, fake_mode())
    graph.recompile()
    assert any(node.target is aten.index_put.default for node in graph.graph.nodes) == scattered
    expected = function(*given)
    expected = expected if isinstance(expected, tuple) else (expected,)
    atol = 1e-6 if dtype == torch.float32 else 5e-2
    torch.testing.assert_close(tuple(graph(*given)), expected, rtol=0, atol=atol)
