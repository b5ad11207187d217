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


def dequantised(table, scale, zero_point, indices):
    return embedding(indices, ((table - zero_point).float() * scale).to(torch.bfloat16))


def dequantised_in_groups(table, scale, zero_point, indices):
    groups = table.reshape(50, 2, 4).float() - zero_point.reshape(50, 1, 1)
    return embedding(indices, (groups * torch.cat([scale, scale], 1).reshape(50, 2, 1)).reshape(50, 8))


def shared_with_the_head(table, scale, zero_point, indices):
    weight = table.float() * scale
    return embedding(indices, weight) @ weight.t()


@pytest.mark.parametrize(
    ("function", "shape"),
    [(dequantised, "3x2x8"), (dequantised_in_groups, "3x2x8"), (shared_with_the_head, "50x8")],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_of_a_table_that_is_dequantised_only_the_rows_looked_up_are(function, shape):
    arguments = (
        torch.randint(-128, 127, (50, 8), dtype=torch.int8),
        torch.randint(1, 9, (50, 1)) / 8,  # eighths: the head's sums have no rounding, in whatever order they are
        torch.randint(-3, 3, (50, 1), dtype=torch.int8),
        torch.tensor([[3, 0], [49, 3], [1, 4]]),
    )
    text = lower(prepare(traced(function, *arguments)), {}, platform="tpu").text()
    whole = [line for line in text.splitlines() if re.search(r"multiply.*tensor<50x(8|2x4)xf32>", line)]
    assert bool(whole) == (shape == "50x8"), text
    assert torch.equal(torch.compile(function, backend="tpu")(*arguments), function(*arguments))
