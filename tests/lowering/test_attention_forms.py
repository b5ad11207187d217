"""Attention's masks and heads: what means causal, nothing, or shared heads is said so, and nothing else is."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tpu_dynamo_lowering.attention_forms import name_masks, share_heads
from tpu_dynamo_lowering.constants import constant_values

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
OTHER = [window, least_added, small_added, one_batch_hidden, upper]


def named(function, *args):
    graph_module = traced(function, *args)
    name_masks(graph_module.graph, constant_values(graph_module))
    share_heads(graph_module.graph)
    graph_module.graph.eliminate_dead_code()
    graph_module.graph.lint()
    return [node for node in graph_module.graph.nodes if "_scaled_dot_product" in str(node.target)]


def is_causal(node):
    return len(node.args) > 4 and node.args[4]


@pytest.mark.parametrize("keys", [5, 7], ids=["square", "more-keys"])
@pytest.mark.parametrize("mask", [*CAUSAL, *EMPTY, *OTHER])
def test_masks_that_mean_causal_or_nothing_are_named_and_no_others(mask, keys):
    inputs = [torch.randn(2, 2, length, 4) for length in (5, keys, keys)]
    (node,) = named(lambda q, k, v: attend(q, k, v, mask(5, keys)), *inputs)
    assert bool(is_causal(node)) == (mask in CAUSAL)
    assert (node.kwargs.get("attn_mask") is not None) == (mask in OTHER)


@pytest.mark.parametrize("mask", [*CAUSAL, *EMPTY, *OTHER])
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
