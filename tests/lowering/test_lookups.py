"""Lookups of repeated indices: rows are gathered once, the values are the same."""

from __future__ import annotations

import re

import pytest
import torch
from torch.nn.functional import embedding

from tpu_dynamo_lowering import lower, prepare

from .graphs import traced

TABLE, INDICES = torch.randn(5, 4), torch.tensor([[3, 0, 3, 1, 4, 2]])


def of_rows(table, indices):
    return embedding(indices.expand(7, 6), table)


def of_more_dimensions(table, indices):
    return embedding(indices.expand(2, 7, 6), table, padding_idx=1)


def of_columns(table, indices):
    return embedding(indices.t().expand(6, 7), table)


def not_repeated(table, indices):
    return embedding(indices.expand(1, 6), table)


@pytest.mark.parametrize("function", [of_rows, of_more_dimensions, of_columns, not_repeated], ids=lambda f: f.__name__)
def test_rows_are_gathered_once_for_indices_that_are_repeated(function):
    text = lower(prepare(traced(function, TABLE, INDICES)), {}, platform="tpu").text()
    (gather,) = (line for line in text.splitlines() if "stablehlo.gather" in line)
    assert re.search(r"-> tensor<(1x6|6x1)x4xf32>", gather)
    found, expected = torch.compile(function, backend="tpu")(TABLE, INDICES), function(TABLE, INDICES)
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride()


def test_gradients_of_repeated_rows_add_up():
    def step(table, indices):
        return embedding(indices.expand(7, 6), table).pow(2).sum()

    tables = [TABLE.clone().requires_grad_() for _ in range(2)]
    step(tables[0], INDICES).backward()
    torch.compile(step, backend="tpu")(tables[1], INDICES).backward()
    torch.testing.assert_close(tables[1].grad, tables[0].grad)
