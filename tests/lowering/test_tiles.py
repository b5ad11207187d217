"""Gradients of slices that tile a tensor: joined where they do, left alone where they do not, the same values always."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from tpu_dynamo_lowering.tiles import join_tiles

from .graphs import traced


def halves(x):
    first, second = x[..., :3], x[..., 3:]
    return torch.cat((-second, first), -1) * 2


def rotated(x):
    return x * 3 + halves(x)


def thirds(x):
    y = x.view(6, 3, 2).permute(1, 0, 2)
    return y[0] * 2 + y[1] * 3 + y[2].sin()


def thirds_backwards(x):
    y = x.view(6, 3, 2)
    return y[:, -1].sin() + y[:, -2] * 2 + y[:, -3]


def overlapping(x):
    return x[:, :4].sum() * 2 + (x[:, 2:] * 3).sum()


def with_a_gap(x):
    return x[:, :2].sum() * 2 + (x[:, 3:] * 3).sum()


def short_of_the_end(x):
    return x[:, :2].sum() * 2 + (x[:, 2:5] * 3).sum()


def in_steps(x):
    return x[:, 0:3:2].sum() * 2 + (x[:, 3:6:2] * 3).sum()


def along_two(x):
    return (x[:3] * 2).sum() + (x[:, 3:] * 5).sum()


def one_half_twice(x):
    half = x[:, :3]
    return half.sin().sum() + half.cos().sum() + (x[:, 3:] * 2).sum()


JOINED = [halves, rotated, thirds, thirds_backwards, one_half_twice]
LEFT = [overlapping, with_a_gap, short_of_the_end, in_steps, along_two]


def gradient_of(function):
    def gradient(x):
        (found,) = torch.autograd.grad(function(x).sum(), x)
        return found

    return gradient


def join(graph_module):
    """Join tiles as `lower` does: with the mode of the graph's fake tensors."""
    (value,) = (node.meta["val"] for node in graph_module.graph.output_node().all_input_nodes[:1])
    join_tiles(graph_module, value.fake_mode)
    graph_module.graph.lint()


@pytest.mark.parametrize("function", [*JOINED, *LEFT])
def test_the_gradient_is_eagers(function):
    x = torch.randn(6, 6, requires_grad=True)
    compiled = torch.compile(function, backend="tpu")
    (found,) = torch.autograd.grad(compiled(x).sum(), x)
    torch.testing.assert_close(found, gradient_of(function)(x))


@pytest.mark.parametrize("function", [*JOINED, *LEFT])
def test_slices_that_tile_a_dimension_are_joined_and_no_others(function):
    graph_module = traced(gradient_of(function), torch.randn(6, 6, requires_grad=True))
    count = Counter(str(node.target) for node in graph_module.graph.nodes)
    padded = [name for name in count if "slice_backward" in name or "select_backward" in name]
    assert padded
    cats = count["aten.cat.default"]
    shape = graph_module.graph.output_node().all_input_nodes[0].meta["val"].shape
    join(graph_module)
    after = Counter(str(node.target) for node in graph_module.graph.nodes)
    if function in JOINED:
        assert after["aten.cat.default"] == cats + 1
        assert not any(after[name] for name in padded)
    else:
        assert after == count
    assert graph_module.graph.output_node().all_input_nodes[0].meta["val"].shape == shape


def test_terms_that_do_not_tile_stay_in_the_sum():
    graph_module = traced(gradient_of(rotated), torch.randn(6, 6, requires_grad=True))
    sums = sum(node.target is torch.ops.aten.add.Tensor for node in graph_module.graph.nodes)
    join(graph_module)
    left = sum(node.target is torch.ops.aten.add.Tensor for node in graph_module.graph.nodes)
    assert (sums, left) == (3, 2)  # one is the forward's


def both(combine):
    def gradients(gradient):
        first = torch.ops.aten.slice_backward(gradient, [6, 6], 1, 0, 3, 1)
        return combine(first, torch.ops.aten.slice_backward(gradient, [6, 6], 1, 3, 6, 1))

    return gradients


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(both(lambda first, second: (first + second, first * 2)), id="read-elsewhere"),
        pytest.param(both(lambda first, second: torch.add(first, second, alpha=2)), id="with-a-factor"),
        pytest.param(both(lambda first, second: first + second.double()), id="of-other-dtypes"),
    ],
)
def test_what_is_no_plain_sum_of_tiles_stays(function):
    graph_module = traced(function, torch.randn(6, 3))
    before = str(graph_module.graph)
    join(graph_module)
    assert str(graph_module.graph) == before
