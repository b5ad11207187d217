"""Attention's masks and heads: what means causal, nothing, or shared heads is said so, and nothing else is."""

from __future__ import annotations

import operator

import pytest
import torch
import torch.nn.functional as F

from tpu_dynamo_lowering.attention_forms import name_masks, share_heads
from tpu_dynamo_lowering.constants import constant_values
from tpu_dynamo_lowering.mask_reading import Visible, read_mask

from .graphs import traced

attend = F.scaled_dot_product_attention
INF = float("inf")


def positions(length):
    return torch.arange(length)


def tril(length, keys):
    return torch.ones(length, keys, dtype=torch.bool).tril()


def causal_by_positions(length, keys):
    return (positions(length)[:, None] >= positions(keys)[None])[None, None].expand(2, 1, length, keys)


def causal_by_gather(length, keys):
    rows = tril(max(length, keys), keys)[positions(length)]
    return rows[None, None]


def additive(length, keys):
    return torch.zeros(length, keys).masked_fill(~tril(length, keys), -INF)


def everything(length, keys):
    return torch.ones(1, 1, length, keys, dtype=torch.bool)


def nothing_added(length, keys):
    return torch.zeros(2, 1, 1, keys)


def window(length, keys):
    return tril(length, keys).triu(-2)


def least_added(length, keys):
    return torch.zeros(length, keys).masked_fill(~tril(length, keys), torch.finfo(torch.float32).min)


def small_added(length, keys):
    return torch.zeros(length, keys) + 1e-6


def one_batch_hidden(length, keys):
    return torch.stack([tril(length, keys), tril(length, keys).triu(-1)])[:, None]


def upper(length, keys):
    return tril(length, keys).flip(0)


CAUSAL = [tril, causal_by_positions, causal_by_gather, additive]
EMPTY = [everything, nothing_added]
WINDOWS = [window]
OTHER = [least_added, small_added, one_batch_hidden, upper]


def named(function, *args):
    graph_module = traced(function, *args)
    mode = next(node.meta["val"].fake_mode for node in graph_module.graph.nodes if "val" in node.meta)
    name_masks(graph_module.graph, constant_values(graph_module), mode)
    share_heads(graph_module.graph)
    graph_module.graph.eliminate_dead_code()
    graph_module.graph.lint()
    return [
        node
        for node in graph_module.graph.nodes
        if "_scaled_dot_product" in str(node.target) or "tpu_dynamo" in str(node.target)
    ]


def is_causal(node):
    return len(node.args) > 4 and node.args[4]


@pytest.mark.parametrize("keys", [5, 7], ids=["square", "more-keys"])
@pytest.mark.parametrize("mask", [*CAUSAL, *EMPTY, *OTHER])
def test_masks_that_mean_causal_or_nothing_are_named_and_no_others(mask, keys):
    inputs = [torch.randn(2, 2, length, 4) for length in (5, keys, keys)]
    (node,) = named(lambda q, k, v: attend(q, k, v, mask(5, keys)), *inputs)
    assert bool(is_causal(node)) == (mask in CAUSAL)
    assert (node.kwargs.get("attn_mask") is not None) == (mask in OTHER)


@pytest.mark.parametrize("mask", [*CAUSAL, *EMPTY, *WINDOWS, *OTHER])
def test_the_values_and_gradients_are_eagers(mask):
    inputs = [torch.randn(2, 2, 5, 4, requires_grad=True) for _ in range(3)]

    def function(q, k, v):
        return attend(q, k, v, mask(5, 5)).square()

    found = torch.compile(function, backend="tpu", fullgraph=True)(*inputs)
    expected = function(*inputs)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(each.sum(), inputs) for each in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_a_mask_that_depends_on_an_input_stays():
    inputs = [torch.randn(2, 2, 5, 4) for _ in range(3)]
    (node,) = named(lambda q, k, v, m: attend(q, k, v, m & tril(5, 5)), *inputs, torch.ones(5, 5, dtype=torch.bool))
    assert not is_causal(node)
    assert node.kwargs["attn_mask"] is not None


LONG = 2**17


def by_comparisons(queries, keys, numbers, left=None, right=None, segments=None):
    """A mask as transformers writes it, of numbers of queries and keys that broadcast together."""
    rows, columns = numbers[:queries][None, None, :, None], numbers[:keys][None, None, None, :]
    mask = torch.ones((), dtype=torch.bool)
    if left is not None:
        mask = mask & (columns >= rows - left)
    if right is not None:
        mask = mask & (rows + right + 1 > columns)
    if segments is not None:
        mask = mask & (segments[:, None, :queries, None] == segments[:, None, None, :keys])
    return mask


@pytest.mark.parametrize("bounds", [(4096, 0), (None, 0), (5, 9), (0, None), (None, -3)], ids=str)
def test_windows_are_read_where_the_mask_would_have_gigabytes(bounds):
    graph_module = traced(lambda: by_comparisons(LONG, LONG, positions(LONG), *bounds).expand(2, 1, LONG, LONG))
    (mask,) = graph_module.graph.output_node().args[0]
    visible = read_mask(mask, constant_values(graph_module), LONG, LONG)
    assert visible is not None
    assert visible.band(LONG) == bounds
    assert visible.segments is None


def test_a_mask_is_read_behind_the_barrier_of_a_checkpoint():
    graph_module = traced(lambda: by_comparisons(LONG, LONG, positions(LONG), 5, 9).expand(2, 1, LONG, LONG))
    graph = graph_module.graph
    (mask,) = graph.output_node().args[0]
    with graph.inserting_before(graph.output_node()):
        barrier = graph.call_function(torch.ops.tpu_dynamo.optimization_barrier.default, ([mask],))
        barrier.meta["val"] = [mask.meta["val"]]
        held = graph.call_function(operator.getitem, (barrier, 0))
        held.meta["val"] = mask.meta["val"]
    visible = read_mask(held, constant_values(graph_module), LONG, LONG)
    assert visible is not None
    assert visible.band(LONG) == (5, 9)
    assert read_mask(barrier, constant_values(graph_module), LONG, LONG) is None


def test_a_band_has_one_width():
    first = torch.tensor([0, 0, 1, 1])
    assert Visible(first, torch.tensor([1, 2, 3, 4])).band(4) is None
    assert Visible(torch.tensor([0, 0, 0, 1]), torch.tensor([1, 2, 3, 4])).band(4) == (2, 0)
    assert Visible(torch.zeros(4, dtype=torch.int64), torch.full((4,), 4)).band(4) == (None, None)


@pytest.mark.parametrize("form", ["plain", "fused"])
@pytest.mark.parametrize("bounds", [(3, 0), (None, None)], ids=str)
def test_windows_and_segments_of_an_input_have_eagers_values_and_gradients(bounds, form):
    inputs = [torch.randn(2, heads, 40, 4) for heads in (6, 2, 2)]
    segments = torch.arange(40).div(7, rounding_mode="floor") + torch.tensor([[-1], [2**40]])

    def function(q, k, v, segments):
        mask = by_comparisons(40, 40, positions(40), *bounds, segments)
        return attend(q, repeated(k), repeated(v), mask)

    (node,) = named(function, *inputs, segments)
    assert str(node.target) == "tpu_dynamo_lowering.attention.default"
    assert node.args[1].meta["val"].shape[1] == 2

    def whole(*given):
        return torch.func.grad_and_value(lambda *given: function(*given).square().sum(), (0, 1, 2))(*given)

    # In one graph, since a backward of its own gets the mask as an input.
    compiled = torch.compile(whole, backend="tpu", fullgraph=True, options={"attention": form})
    torch.testing.assert_close(compiled(*inputs, segments), whole(*inputs, segments))


@pytest.mark.parametrize("changed", ["order", "float"])
def test_comparisons_that_mean_something_else_stay(changed):
    numbers = positions(40) * 17 % 40 if changed == "order" else positions(40)

    def function(q, x):
        segments = x if changed == "float" else None
        return attend(q, q, q, by_comparisons(40, 40, numbers, 3, 0, segments))

    (node,) = named(function, torch.randn(1, 2, 40, 4), torch.randn(1, 40))
    assert node.kwargs["attn_mask"] is not None


def repeated(x, times=3):
    batch, heads, length, features = x.shape
    return x[:, :, None].expand(batch, heads, times, length, features).reshape(batch, heads * times, length, features)


def tiled(x):
    return x.repeat(1, 3, 1, 1)


def by_another_dimension(x):
    return x[:, None].expand(2, 3, 2, 5, 4).reshape(2, 6, 5, 4)


def both_repeated(q, k, v):
    return attend(q, repeated(k), repeated(v), is_causal=True)


def interleaved(q, k, v):
    return attend(q, torch.repeat_interleave(k, 3, 1), torch.repeat_interleave(v, 3, 1))


def one_repeated(q, k, v):
    return attend(q, repeated(k), tiled(v))


def neither(q, k, v):
    return attend(q, by_another_dimension(k), by_another_dimension(v))


@pytest.mark.parametrize("function", [both_repeated, one_repeated, neither, interleaved])
def test_heads_that_are_repeated_for_attention_are_shared(matches_eager, function):
    inputs = [torch.randn(2, heads, 5, 4) for heads in (6, 2, 2)]
    (node,) = named(function, *inputs)
    heads = [node.args[i].meta["val"].shape[1] for i in (1, 2)]
    assert heads == ([2, 2] if function in (both_repeated, interleaved) else [6, 6])
    matches_eager(function, *inputs)


def test_gradients_of_repeated_heads_are_eagers():
    inputs = [torch.randn(2, heads, 5, 4, requires_grad=True) for heads in (6, 2, 2)]
    found = torch.compile(both_repeated, backend="tpu", fullgraph=True)(*inputs)
    gradients = [torch.autograd.grad(each.square().sum(), inputs) for each in (found, both_repeated(*inputs))]
    torch.testing.assert_close(*gradients)
