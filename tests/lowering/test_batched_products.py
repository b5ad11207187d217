"""Products of batches: made of the tensors that a graph flattens, moves and repeats for them; the same values always."""

from __future__ import annotations

import pytest
import torch

from tpu_dynamo_lowering import lower, prepare
from tpu_dynamo_lowering.batched_products import EINSUM, restore_batches
from tpu_dynamo_lowering.pipeline import fake_mode

from .graphs import traced

aten = torch.ops.aten


def matmul(x, y):
    return torch.matmul(x, y.transpose(-2, -1))


def einsum(x, y):
    return torch.einsum("bhqd,bhkd->bqhk", x, y)


def heads_merged_from_a_dimension(x, y):
    left = x.permute(0, 2, 1, 3).reshape(2, 5, 12).view(2, 5, 4, 3).transpose(1, 2)
    return torch.matmul(left, y.permute(0, 2, 3, 1).reshape(2, 5, 12).view(2, 5, 3, 4).permute(0, 3, 2, 1))


def sum_over_two_dimensions(x, y):
    return torch.einsum("bhqd,bkqd->bhk", x, y)


def repeated_in_one(x, y):
    return torch.matmul(x, y[:, :2].repeat_interleave(2, dim=1).transpose(-2, -1))


def repeated_in_both(x, y):
    left, right = (each[:, :1].expand(2, 4, 5, 3) for each in (x, y))
    return torch.matmul(left, right.transpose(-2, -1)) * 2


def rows_repeated(x, y):
    return torch.matmul(x[:, :, :1].expand(2, 4, 6, 3), y.transpose(-2, -1))


def batch_split_otherwise(x, y):
    return torch.bmm(x.reshape(8, 5, 3), y.reshape(4, 2, 5, 3).flatten(0, 1).transpose(1, 2))


def padded_by_nothing(x, y):
    return torch.matmul(aten.constant_pad_nd(x, [0, 0, 0, 0]), y.transpose(-2, -1))


RESTORED = [
    matmul, einsum, heads_merged_from_a_dimension, sum_over_two_dimensions, repeated_in_one, repeated_in_both,
    rows_repeated, batch_split_otherwise, padded_by_nothing,
]  # fmt: skip


def sum_over_what_repeats(x, y):
    return torch.matmul(x[..., :1].expand(2, 4, 5, 3).reshape(8, 5, 3), y.reshape(8, 3, 5))


def matrices_as_they_are(x, y):
    return torch.bmm(x[0] * 2, (y[0] * 2).relu().view(4, 3, 5))


def calls(graph):
    return [node.target for node in graph.graph.nodes if node.op == "call_function"]


def given():
    return torch.randn(2, 4, 5, 3, dtype=torch.float64), torch.randn(2, 4, 5, 3, dtype=torch.float64)


@pytest.mark.parametrize("function", [*RESTORED, sum_over_what_repeats, matrices_as_they_are])
def test_values_are_the_same(function):
    x, y = given()
    graph = traced(function, x, y)
    restore_batches(graph.graph, fake_mode())
    graph.graph.lint()
    graph.recompile()
    (found,) = graph(x, y)
    torch.testing.assert_close(found, function(x, y))
    assert (EINSUM in calls(graph)) == (function is not matrices_as_they_are)
    for node in graph.graph.nodes:
        if node.target is EINSUM:
            assert (
                node.meta["val"].shape == torch.einsum(*(getattr(a, "meta", {}).get("val", a) for a in node.args)).shape
            )


@pytest.mark.parametrize("function", RESTORED)
def test_no_operand_is_repeated_or_flattened(function):
    graph = traced(function, *given())
    restore_batches(graph.graph, fake_mode())
    assert aten.bmm.default not in calls(graph)
    before = calls(graph)[: calls(graph).index(EINSUM)]
    assert aten.expand.default not in before


def test_only_programs_for_tpus_have_such_products():
    graph = prepare(traced(einsum, *(each.float() for each in given())))
    programs = {platform: lower(graph, {}, platform=platform).text() for platform in ("cpu", "tpu")}
    batches = {platform: text.count("batching_dims = [0, 1]") for platform, text in programs.items()}
    assert batches == {"cpu": 0, "tpu": 1}
