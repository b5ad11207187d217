"""Attention as one kernel: the values of plain attention, chosen by shape and target, in programs without paths."""

from __future__ import annotations

import base64
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jax.experimental import pallas
from jaxlib.mlir import ir

import tpu_dynamo
from tpu_dynamo.options import OptionError, Options
from tpu_dynamo_lowering import jax_compat, lower, pallas_compat, prepare
from tpu_dynamo_lowering.kernels.attention_choice import chosen_attention, chosen_gradients
from tpu_dynamo_lowering.kernels.fused_attention import _steps, _visible
from tpu_dynamo_lowering.kernels.seen_keys import Seen
from tpu_dynamo_lowering.target import Target

from .graphs import traced

FUSED, PLAIN = Target(attention="fused"), Target(attention="plain")
SEGMENTS = np.repeat([[0, 1, 2, 2, 1], [3, 3, 0, 1, 9]], 40, axis=1).astype(np.int32)
OTHER_SEGMENTS = np.where(SEGMENTS == 1, 7, SEGMENTS)

CASES = {
    "whole": (Seen(), None, False),
    "causal": (Seen(), None, True),
    "window": (Seen(left=20, right=3), None, False),
    "causal-window": (Seen(left=20), None, True),
    "rows-without-keys": (Seen(left=-150, right=None), None, False),
    "first-rows-without-keys": (Seen(right=-3), None, False),
    "cap": (Seen(cap=0.7), None, True),
    "segments": (Seen(query_segments=SEGMENTS, key_segments=SEGMENTS), None, True),
    "segments-without-keys": (Seen(query_segments=SEGMENTS, key_segments=OTHER_SEGMENTS, cap=2.0), None, False),
    "mask-of-keys": (Seen(), np.arange(200) % 3 > 0, False),
    "mask-of-no-keys": (Seen(), np.zeros((2, 1, 1, 200), np.bool_), True),
}


def operands(keys=200, key_heads=2, features=(8, 16)):
    """Values of 200 queries of four heads, and the gradient of the result."""
    numbers = np.random.default_rng(0)
    shapes = ((4, 200, features[0]), (key_heads, keys, features[0]), (key_heads, keys, features[1]))
    return [numbers.standard_normal((2, *s)).astype(np.float32) for s in (*shapes, (4, 200, features[1]))]


def both_ways(target, given, mask, is_causal, seen):
    @jax.jit
    def function(query, key, value, gradient):
        out, normaliser = chosen_attention(query, key, value, mask, is_causal, 0.3, target, seen)
        operands = (gradient, query, key, value, out, normaliser, mask, is_causal, 0.3, target, seen)
        return out, normaliser, *chosen_gradients(*operands)

    return function(*given)


def check(given, mask, is_causal, seen):
    ways = [both_ways(target, given, mask, is_causal, seen) for target in (FUSED, PLAIN)]
    for found, expected in zip(*ways, strict=True):
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


QUICK = ("whole", "causal-window", "first-rows-without-keys", "segments-without-keys", "mask-of-no-keys")


@pytest.mark.parametrize("case", [pytest.param(c, marks=() if c in QUICK else pytest.mark.slow) for c in CASES])
def test_the_kernel_gives_the_values_and_gradients_of_plain_attention(case):
    seen, mask, is_causal = CASES[case]
    mask = np.broadcast_to(mask, (2, 1, 1, 200)) if mask is not None else None
    check(operands(), mask, is_causal, seen)


@pytest.mark.parametrize("keys", [70, 600], ids=["fewer-keys", "more-keys"])
def test_other_numbers_of_keys(keys):
    check(operands(keys, key_heads=4), None, True, Seen())


def test_keys_and_values_with_other_heads():
    query, key, value, gradient = operands(features=(8, 8))
    check((query, key, value[:, :1], gradient), None, True, Seen())


@pytest.mark.parametrize("mean", [pytest.param(0, marks=pytest.mark.slow), 30], ids=["centred", "extreme-mean"])
def test_bfloat16_is_as_exact_as_eager(mean):
    exact = [torch.from_numpy(x).double() + mean * (i < 2) for i, x in enumerate(operands(features=(64, 64)))]
    halves = [x.bfloat16() for x in exact]
    exact = [x.double() for x in halves]

    def results(function, given):
        leaves = [x.clone().requires_grad_() for x in given[:3]]
        out = function(*leaves)
        return out, *torch.autograd.grad(out, leaves, given[3])

    def attend(query, key, value):
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)

    fused = torch.compile(attend, backend="tpu", fullgraph=True, options={"attention": "fused"})
    for found, eager, truth in zip(
        results(fused, halves), results(attend, halves), results(attend, exact), strict=True
    ):
        errors = [(x.double() - truth).norm() for x in (found, eager)]
        assert errors[0] <= 1.1 * errors[1]


def test_the_device_computes_by_the_kernel_too():
    given = [torch.randn(1, heads, 130, 8, device="tpu") for heads in (4, 2, 2)]

    def attend(query, key, value):
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)

    found = torch.compile(attend, backend="tpu", options={"attention": "fused"})(*given)
    torch.testing.assert_close(found.cpu(), attend(*(x.cpu() for x in given)))


REFUSED = {
    "mask": (torch.float32, torch.zeros(200, 200), "masks that are causal"),
    "dtype": (torch.float64, None, "takes bfloat16 and float32, not float64"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_kernel_cannot_compute_is_refused_where_it_is_demanded(case):
    dtype, mask, words = REFUSED[case]
    query = torch.randn(1, 2, 200, 8, dtype=dtype)

    def attend(query):
        return F.scaled_dot_product_attention(query, query, query, mask)

    with pytest.raises(Exception, match=words):  # Dynamo wraps what a backend raises
        torch.compile(attend, backend="tpu", options={"attention": "fused"})(query)
    found = torch.compile(attend, backend="tpu", options={"attention": "auto"})(query)
    torch.testing.assert_close(found, attend(query))


def test_other_forms_are_no_option():
    assert Options.parse({"attention": "plain"}).attention == "plain"
    with pytest.raises(OptionError, match="attention='flash'"):
        Options.parse({"attention": "flash"})


def program(dtype=torch.bfloat16, backward=False, **target):
    query = torch.empty(1, 2, 1024, 64, dtype=dtype)

    def attend(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    function = attend if not backward else torch.func.grad(lambda q: attend(q, q, q).float().sum())
    graph = prepare(traced(function, *([query] * (1 if backward else 3))))
    return lower(graph, {}, **{"platform": "tpu", **target})


def kernels(*args, **target):
    return jax_compat.as_text(program(*args, **target).stablehlo).count("@tpu_custom_call")


def test_the_target_and_the_shapes_choose():
    # Scores of 2 x 1024 x 1024 are 8 MiB, of a block of 128 rows 1 MiB.
    assert kernels(fast_memory=2**24) == kernels(fast_memory=2**22) == kernels() == 0
    assert kernels(fast_memory=2**20) == 1
    assert kernels(fast_memory=2**20, attention="plain") == kernels(fast_memory=2**20, platform="cpu") == 0
    assert kernels(attention="fused") == 1
    assert kernels(fast_memory=2**20, backward=True) == 3
    assert kernels(torch.float16, fast_memory=2**20) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_a_tpu_takes_the_kernels_and_their_cost_is_an_estimate(dtype):
    query = torch.empty(1, 4, 200, 64, dtype=dtype, device="meta", requires_grad=True)
    key = torch.empty(1, 2, 200, 64, dtype=dtype, device="meta", requires_grad=True)

    def attend(query, key):
        return F.scaled_dot_product_attention(query, key, key, is_causal=True, enable_gqa=True)

    options = {"attention": "fused"}
    graphs = tpu_dynamo.compile_for(attend, (query, key), target="v5e:2x2", training=True, options=options)
    costs = [graph.cost for graph in graphs]
    assert len(costs) == 2
    for cost in costs:
        assert cost.kernels["custom-call tpu_custom_call"] > 0
        assert not cost.unestimated


SOURCE = "def double(x, y):\n    y[...] = x[...] * 2\n"


def test_where_a_kernel_was_installed_is_in_no_digest(monkeypatch):
    def digest(file, lines):
        scope = {}
        exec(compile("\n" * lines + SOURCE, file, "exec"), scope)
        shape = jax.ShapeDtypeStruct((128, 128), jnp.float32)
        module = jax_compat.lower_function(pallas.pallas_call(scope["double"], out_shape=shape), [shape], "tpu")
        before = jax_compat.digest(module)
        pallas_compat.strip_kernels(module)
        return before, jax_compat.digest(module)

    here, there = digest("/here/kernel.py", 0), digest("/there/lib/kernel.py", 7)
    assert here[0] != there[0]
    assert here[1] == there[1]
    assert b"splash_attention_kernel.py" not in _bodies(program(attention="fused"))


def _bodies(lowered):
    module = jax_compat.parse(lowered.stablehlo, jax_compat.new_context())
    configs = [
        json.loads(ir.StringAttr(each.attributes["backend_config"]).value)
        for each in jax_compat.operations(module)
        if "backend_config" in each.attributes
    ]
    assert configs
    return b"".join(base64.b64decode(each["custom_call_config"]["body"]) for each in configs)


def test_blocks_that_see_nothing_are_not_visited():
    visible = _visible(1000, 1000, 128, 128, Seen(left=130, right=0))
    blocks, runs = _steps(visible)
    assert blocks.shape == runs.shape == (8, 3)
    assert [list(row) for row in visible.nonzero()] == [
        [row for row, ran in enumerate(runs) for _ in range(ran.sum())],
        [block for row, ran in zip(blocks, runs, strict=True) for block in row[: ran.sum()]],
    ]
    # A step that does nothing fetches what the next row begins with.
    assert blocks[0, 1] == blocks[1, 0]
