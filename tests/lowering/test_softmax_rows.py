"""Softmax and attention on rows that see nothing, infinities or nan: eager's values, forward and backward."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tpu_dynamo_lowering import jax_compat, lower, prepare

from .graphs import traced

pytestmark = pytest.mark.sampled(2)

aten = torch.ops.aten
NAN, INF, LEAST = float("nan"), float("inf"), torch.finfo(torch.float32).min

ROWS = {
    "hidden": [-INF, -INF, -INF, -INF],
    "one seen": [-INF, 2.0, -INF, -INF],
    "infinite": [INF, 0.0, 1.0, -INF],
    "two infinite": [INF, INF, 0.0, 0.0],
    "nan": [NAN, 0.0, 1.0, 2.0],
    "nan and hidden": [NAN, -INF, -INF, -INF],
    "all nan": [NAN, NAN, NAN, NAN],
    "least": [LEAST, LEAST, LEAST, LEAST],
    "least and hidden": [LEAST, LEAST, -INF, -INF],
    "far below": [-1e38, -2e38, -1e38, -INF],
    "plain": [0.0, 1.0, -2.0, 3.0],
}

# Added to the scores of three queries.
MASKS = {name: [ROWS["plain"], row, ROWS["plain"]] for name, row in ROWS.items()}


def close(ours, theirs, name, dtype=torch.float32):
    """Compare a row's values; in half precision the last bits of what is rounded twice may differ."""
    tolerances = {"rtol": 2e-2, "atol": 1e-2} if dtype == torch.bfloat16 else {}
    message = lambda text: f"{name}: {text}"  # noqa: E731
    torch.testing.assert_close(ours, theirs, equal_nan=True, msg=message, **tolerances)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_softmaxes_of_each_row_are_eagers(dtype):
    x = torch.tensor([*ROWS.values()]).to(dtype)

    def forward(x):
        return [
            function(each, dim)
            for dim, each in ((-1, x), (0, x.t()))
            for function in (F.softmax, F.log_softmax, aten._safe_softmax, torch.logsumexp)
        ]

    def gradients(forward):
        given = x.clone().requires_grad_()
        softmax, logarithms = forward(given)[:2]
        return torch.autograd.grad(softmax[:, 1].sum() + logarithms[:, 2].sum(), given)[0]

    compiled = torch.compile(forward, backend="tpu", fullgraph=True)
    for ours, theirs in zip(compiled(x), forward(x), strict=True):
        close(ours, theirs, "forward", dtype)
    for name, ours, theirs in zip(ROWS, gradients(compiled), gradients(forward), strict=True):
        close(ours, theirs, name, dtype)


def operands(dtype, heads, batch=1):
    """Three queries, and keys and values of length four, equal in the whole batch."""
    queries, keys = heads
    shapes = ((queries, 3), (keys, 4), (keys, 4))
    return [torch.randn(1, *shape, 8).to(dtype).repeat(batch, 1, 1, 1) for shape in shapes]


def masks_of(dtype):
    """Each mask for one element of a batch."""
    return torch.tensor([*MASKS.values()]).to(dtype)[:, None]


@pytest.mark.parametrize("heads", [(2, 2), (4, 2)], ids=["equal-heads", "grouped-queries"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_attention_under_each_additive_mask_is_eagers(dtype, heads):
    given = operands(dtype, heads, len(MASKS))
    attend = aten._scaled_dot_product_flash_attention_for_cpu
    expected = attend(*given, 0.0, False, attn_mask=masks_of(dtype))
    compiled = torch.compile(lambda *args: attend(*args[:3], 0.0, False, attn_mask=args[3]), backend="tpu")
    for ours, theirs in zip(compiled(*given, masks_of(dtype)), expected, strict=True):
        for name, mine, other in zip(MASKS, ours, theirs, strict=True):
            close(mine, other, name, dtype)


@pytest.mark.parametrize("heads", [(2, 2), (4, 2)], ids=["equal-heads", "grouped-queries"])
@pytest.mark.parametrize("kind", ["additive", "boolean", "by-head", "two-dimensional", "none", "causal"])
def test_gradients_of_attention_under_each_mask_are_eagers(heads, kind):
    additive = masks_of(torch.float32)
    mask = {
        "additive": additive, "boolean": additive > -1, "by-head": torch.rand(len(MASKS), heads[0], 3, 4) > 0.3,
        "two-dimensional": additive[1, 0],
    }.get(kind)  # fmt: skip
    given = [each.requires_grad_() for each in operands(torch.float32, heads, len(MASKS))]

    def gradients(attend):
        return torch.autograd.grad(attend(*given).square().sum(), given)

    def attend(query, key, value):
        return F.scaled_dot_product_attention(
            query, key, value, mask, is_causal=kind == "causal", enable_gqa=heads[0] != heads[1]
        )

    compiled = torch.compile(attend, backend="tpu", fullgraph=True)
    for ours, theirs in zip(gradients(compiled), gradients(attend), strict=True):
        for name, mine, other in zip(MASKS, ours, theirs, strict=True):
            close(mine, other, name)


def test_scores_that_are_all_negative_infinity_without_a_mask_give_zeros(matches_eager):
    query, key, value = operands(torch.float32, (2, 2))
    key = torch.full_like(key, -INF)
    matches_eager(aten._scaled_dot_product_flash_attention_for_cpu, query.abs() + 0.1, key, value)


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
def test_attention_tests_no_scores(masked):
    def attend(query, key, value, mask):
        return F.scaled_dot_product_attention(query, key, value, mask if masked else None)

    mask = torch.zeros(3, 4)
    program = lower(prepare(traced(attend, *operands(torch.float32, (2, 2)), mask)), {}, platform="tpu")
    text = jax_compat.as_text(program.stablehlo)
    assert "stablehlo.exponential" in text
    assert "is_finite" not in text


def test_logsumexp_tests_no_values():
    text = lower(prepare(traced(lambda x: torch.logsumexp(x, 1), torch.randn(2, 3))), {}, platform="tpu").text()
    assert "is_finite" not in text


def test_the_heads_of_keys_are_not_repeated():
    def attend(query, key, value):
        return F.scaled_dot_product_attention(query, key, value, enable_gqa=True)

    program = lower(prepare(traced(attend, *operands(torch.float32, (8, 2)))), {}, platform="tpu")
    text = jax_compat.as_text(program.stablehlo)
    assert "tensor<1x8x4x8xf32>" not in text
