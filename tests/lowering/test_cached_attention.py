"""Attention to a long cache as one kernel: the values of plain attention, and nothing read of what is hidden."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch._higher_order_ops.while_loop import while_loop

import tpu_dynamo
from tpu_dynamo_lowering import jax_compat, lower, prepare
from tpu_dynamo_lowering.kernels.attention_choice import chosen_attention
from tpu_dynamo_lowering.kernels.cached_attention import _steps
from tpu_dynamo_lowering.kernels.seen_keys import ALL, Seen
from tpu_dynamo_lowering.target import Target

from .graphs import traced

KEYS, BLOCK = 11 * 128, 128  # no larger block divides them
NUMBERS = np.arange(KEYS)
PLACES = np.array([500, 300])[:, None]
MASKS = {
    "one place": (NUMBERS <= 500)[None],
    "a place of each": NUMBERS <= PLACES,
    "padding before": (NUMBERS <= 500) & (NUMBERS >= PLACES - 290),
    "a window": (NUMBERS <= PLACES) & (NUMBERS > PLACES - 100),
    "one sees nothing": (NUMBERS <= 500) & (PLACES > 400),
    "nothing": (NUMBERS < 0)[None],
    "all": (NUMBERS >= 0)[None],
}


def attends(form, seen=ALL):
    def attend(query, key, value, mask):
        target = Target(attention=form)
        return chosen_attention(query, key, value, mask[:, None, None], False, 0.3, target, seen)

    return jax.jit(attend)


def operands(queries=1, heads=4, key_heads=2, features=(8, 8)):
    numbers = np.random.default_rng(0)
    shapes = ((heads, queries, features[0]), (key_heads, KEYS, features[0]), (key_heads, KEYS, features[1]))
    return [numbers.standard_normal((2, *shape)).astype(np.float32) for shape in shapes]


def assert_equal(found, plain):
    for ours, expected in zip(found, plain, strict=True):
        assert (ours.shape, ours.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=2e-5)


def test_the_values_are_those_of_plain_attention_and_what_is_hidden_is_not_read():
    fused, plain = attends("fused"), attends("plain")
    query, *cache = operands()
    for mask in MASKS.values():
        seen = np.nonzero(mask.any(axis=0))[0] // BLOCK
        read = np.isin(NUMBERS // BLOCK, np.arange(seen[0], seen[-1] + 1)) if len(seen) else NUMBERS < 0
        mask = np.broadcast_to(mask, (2, KEYS))
        with_nan = (np.where(read[:, None], each, np.nan) for each in cache)
        assert_equal(fused(query, *with_nan, mask), plain(query, *cache, mask))


FORMS = {
    "few-queries": dict(queries=3),
    "heads-of-their-own": dict(heads=2),
    "other-features-of-values": dict(features=(8, 128)),
    "whole-registers": dict(features=(128, 128)),
}


@pytest.mark.parametrize("name", FORMS)
def test_other_shapes(name):
    given = (*operands(**FORMS[name]), MASKS["a place of each"])
    assert_equal(*(attends(form, Seen(cap=2.0))(*given) for form in ("fused", "plain")))


def test_bfloat16_is_as_exact_as_eager():
    given = [torch.from_numpy(each).bfloat16() for each in operands(features=(64, 64))]
    mask = torch.from_numpy(MASKS["a place of each"])[:, None, None]

    def attend_to_cache(query, key, value):
        return F.scaled_dot_product_attention(query, key, value, mask, enable_gqa=True)

    fused = torch.compile(attend_to_cache, backend="tpu", fullgraph=True, options={"attention": "fused"})
    truth = attend_to_cache(*(each.double() for each in given))
    errors = [(function(*given).double() - truth).norm() for function in (fused, attend_to_cache)]
    assert errors[0] <= 1.1 * errors[1]


def test_steps_stay_where_nothing_is_seen():
    blocks, runs = (np.asarray(each) for each in _steps(jnp.array([False, False, True, False, True, False])))
    assert blocks.tolist() == [[2, 2, 2, 3, 4, 4]]
    assert runs.tolist() == [[False, False, True, True, True, False]]


def attend(key, value, query, place, padding=None):
    """Attention to the keys up to a place, as a static cache's mask says it."""
    mask = torch.arange(key.shape[2], device=key.device)[None, None, None] <= place[:, None, None, None]
    mask = mask if padding is None else mask & padding[:, None, None]
    return F.scaled_dot_product_attention(query, key, value, mask, enable_gqa=True)


def with_added_mask(key, value, query, place):
    hidden = torch.zeros(key.shape[2]).index_fill(0, place, -1.0).to(query)
    return F.scaled_dot_product_attention(query, key, value, hidden[None, None, None], enable_gqa=True)


def step(key, value, query, new, place, padding):
    key.index_copy_(2, place, new)
    value.index_copy_(2, place, new)
    return attend(key, value, query, place, padding)


def given(keys=4096, features=64, dtype=torch.bfloat16, **like):
    key, value = (torch.zeros(4, 2, keys, features, dtype=dtype, **like) for _ in range(2))
    query, new = (torch.zeros(4, heads, 1, features, dtype=dtype, **like) for heads in (8, 2))
    return key, value, query, new, torch.zeros(1, dtype=torch.int64, **like)


def kernels(function=attend, platform="tpu", attention: Any = "auto", **how):
    key, value, query, _, place = given(**how)
    graph = prepare(traced(function, key, value, query, place))
    lowered = lower(graph, {}, platform=platform, fast_memory=2**27, attention=attention)
    return jax_compat.as_text(lowered.stablehlo).count("@tpu_custom_call")


def test_the_target_the_shapes_and_the_mask_choose():
    assert kernels() == kernels(dtype=torch.float32) == kernels(keys=4224) == 1
    assert kernels(platform="cpu") == kernels(attention="plain") == 0
    assert kernels(keys=2048) == kernels(keys=4100) == kernels(dtype=torch.float16) == kernels(with_added_mask) == 0
    assert kernels(keys=2048, attention="fused") == 1


@pytest.mark.parametrize("features", [64, 128])
def test_a_tpu_leaves_the_cache_where_it_is(features):
    """No copy, none to its fast memory either: all that is read of the cache is what the kernel fetches."""
    arguments = (*given(features=features, device="meta"), torch.ones(4, 4096, dtype=torch.bool, device="meta"))
    (graph,) = tpu_dynamo.compile_for(step, arguments, target="v5e:2x2")
    assert graph.cost.kernels["custom-call tpu_custom_call"] > 0
    caches = rf"= bf16\[4,2,(?:4096,{features}|{features},4096)\](\S+) ([a-z-]+)\("
    layouts, operations = map(set, zip(*re.findall(caches, graph.optimized_hlo), strict=True))
    assert operations == {"parameter", "dynamic-update-slice"} | ({"bitcast"} if features == 64 else set())
    assert not any("S(1)" in layout for layout in layouts)  # that is fast memory


def test_steps_of_a_loop_have_the_kernel_too():
    """Steps of decode_loop are such; the heads that a model repeats are not there more than once either."""
    key, value, query, _, place = given(device="meta")

    def loop(key, value, query, place):
        def body(number, query):
            keys, values = (torch.repeat_interleave(each, 4, 1) for each in (key, value))
            mask = torch.arange(key.shape[2], device=key.device) <= place[:, None, None, None] + number
            return number + 1, F.scaled_dot_product_attention(query, keys, values, mask.expand(4, 1, 1, -1))

        start = torch.zeros((), dtype=torch.int64, device=key.device)
        return while_loop(lambda number, query: number < 4, body, (start, query))[1]

    (graph,) = tpu_dynamo.compile_for(loop, (key, value, query, place), target="v5e:2x2")
    assert "tpu_custom_call" in graph.optimized_hlo
    assert "bf16[4,8,4096" not in graph.optimized_hlo
