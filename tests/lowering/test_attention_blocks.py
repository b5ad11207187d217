"""Attention by blocks of queries: the values of the whole, in no more memory than the target has."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tpu_dynamo_lowering import jax_compat, lower, prepare
from tpu_dynamo_lowering.kernels.scaled_dot_products import attend, attention_gradients, attention_of

from .graphs import traced

pytestmark = pytest.mark.sampled(3)

# Room for so few scores that blocks have 128 queries.
LITTLE = 2**18

CASES = list(itertools.product([False, True], [1, 2], ["none", "boolean", "hidden rows", "one for all", "keys"]))


def operands(groups, seed=0):
    """Values of 300 queries and 300 keys, and the gradient of the result."""
    numbers = np.random.default_rng(seed)
    shapes = ((1, 2 * groups), (1, 2), (1, 2), (1, 2 * groups))
    return [numbers.standard_normal((*shape, 300, 8)).astype(np.float32) for shape in shapes]


def mask_of(kind, groups):
    numbers = np.random.default_rng(1)
    seen = numbers.random((1, 2 * groups, 300, 300)) > 0.3
    added = np.where(seen, 0, -np.inf).astype(np.float32)
    added[:, :, 100:200] = -np.inf
    return {
        "none": None, "boolean": seen, "hidden rows": added, "one for all": added[0, 0], "keys": added[:, :1, :1],
    }[kind]  # fmt: skip


@pytest.mark.parametrize(("is_causal", "groups", "kind"), CASES)
def test_blocks_give_the_values_and_gradients_of_the_whole(is_causal, groups, kind):
    query, key, value, gradient = operands(groups)
    mask = mask_of(kind, groups)
    assert len(attention_of(query, key, value, mask, is_causal, None).edges(LITTLE)) > 2

    def both(fast_memory):
        def function(*given):
            out, normaliser = attend(*given[:3], mask, is_causal, None, fast_memory)
            arguments = (given[3], *given[:3], out, normaliser, mask, is_causal, None)
            return out, normaliser, *attention_gradients(*arguments, fast_memory)

        return jax.jit(function)(query, key, value, gradient)

    for found, expected in zip(both(LITTLE), both(None), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("keys", [64, 500], ids=["fewer-keys", "more-keys"])
def test_blocks_of_a_causal_mask_with_other_numbers_of_keys(keys):
    query, key, value, gradient = operands(1)
    key, value = (np.resize(each, (1, 2, keys, 8)) for each in (key, value))

    def both(fast_memory):
        out, normaliser = attend(query, key, value, None, True, None, fast_memory)
        return out, *attention_gradients(gradient, query, key, value, out, normaliser, None, True, None, fast_memory)

    for found, expected in zip(both(2**16), both(None), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("fast_memory", "edges"),
    [
        pytest.param(None, [0, 1000], id="unknown"),
        pytest.param(2**30, [0, 1000], id="fits"),
        pytest.param(2**23, [0, 512, 1000], id="fits-but-fills-half"),
        pytest.param(2**22, [0, 256, 512, 768, 1000], id="a-quarter"),
        pytest.param(2**10, [*range(0, 1000, 128), 1000], id="too-little"),
    ],
)
def test_blocks_are_as_large_as_the_target_allows(fast_memory, edges):
    query = np.zeros((1, 2, 1000, 8), np.float32)
    assert attention_of(query, query[:, :, :512], query[:, :, :512], None, False, None).edges(fast_memory) == edges


def test_there_are_never_many_blocks():
    query = np.zeros((1, 1, 2**17, 1), np.float32)
    edges = attention_of(query, query, query, None, True, None).edges(2**20)
    assert len(edges) == 17
    assert edges[-1] == 2**17


def products(fast_memory):
    query = torch.empty(1, 2, 300, 8)
    graph = traced(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), query, query, query)
    program = lower(prepare(graph), {}, platform="tpu", fast_memory=fast_memory, attention="plain")
    return jax_compat.as_text(program.stablehlo).count("stablehlo.dot_general"), program.digest


def test_the_target_decides():
    whole, blocks = products(None), products(LITTLE)
    assert (whole[0], blocks[0]) == (2, 6)
    assert products(2**30)[1] == whole[1] != blocks[1]
