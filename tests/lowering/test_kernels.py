"""Kernels where PyTorch's semantics have corners: ties, nan, signs, bounds. test_opinfo.py covers the breadth."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.sampled(6)

NAN, INF = float("nan"), float("inf")
aten = torch.ops.aten


@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool], ids=str)
def test_sort_is_stable_in_both_directions(matches_eager, dtype, descending):
    x = torch.tensor([3, 1, 2, 1, 3, 0, 2, 1]).to(dtype)
    matches_eager(lambda x: torch.sort(x, stable=True, descending=descending), x)


@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
def test_sort_puts_nan_above_every_number(matches_eager, descending):
    x = torch.tensor([[1.0, NAN, -INF, INF], [NAN, 2.0, -0.0, 0.0]])
    matches_eager(lambda x: torch.sort(x, dim=1, stable=True, descending=descending)[0], x)


def test_sort_of_the_extreme_integers(matches_eager):
    x = torch.tensor([0, torch.iinfo(torch.int64).min, torch.iinfo(torch.int64).max, -1])
    matches_eager(lambda x: (torch.sort(x, descending=True), torch.topk(x, 2), torch.topk(x, 2, largest=False)), x)


@pytest.mark.parametrize(
    "bounds",
    [pytest.param((0, 0), id="from-data"), pytest.param((-1, 1), id="given"), pytest.param((2, 2), id="equal")],
)
def test_histc_counts_both_ends_and_drops_the_rest(matches_eager, bounds):
    x = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0, 1.0, 3.0, -7.0])
    matches_eager(lambda x: torch.histc(x, 4, *bounds), x)


def test_histc_of_equal_values(matches_eager):
    matches_eager(lambda x: torch.histc(x, 5), torch.full((6,), 2.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int32, torch.bool], ids=str)
def test_cumsum_accumulates_as_eager_does(matches_eager, dtype):
    matches_eager(
        lambda x: torch.cumsum(x, 1), torch.testing.make_tensor(3, 50, dtype=dtype, device="cpu", low=0, high=2)
    )


def test_running_extremes_keep_nan_and_the_last_position(matches_eager):
    x = torch.tensor([1.0, 3.0, 3.0, NAN, 5.0])
    matches_eager(lambda x: (torch.cummax(x, 0), torch.cummin(x, 0)), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool], ids=str)
def test_running_extremes_of_every_dtype(matches_eager, dtype):
    x = torch.tensor([[2, 5, 5, 1, 7, 7, 0], [0, 0, 1, 1, 0, 3, 3]]).to(dtype)
    matches_eager(lambda x: (torch.cummax(x, 1), torch.cummin(x, 1), torch.cummax(x, 0), torch.cummin(x, 0)), x)


def test_running_extremes_of_infinities_and_nan(matches_eager):
    x = torch.tensor([[-INF, -INF, 1.0, INF, INF], [INF, NAN, NAN, -INF, 2.0]])
    matches_eager(lambda x: (torch.cummax(x, 1), torch.cummin(x, 1)), x)


SIGNS = torch.tensor([-7, -6, -1, 0, 1, 6, 7])


@pytest.mark.parametrize("divisor", [-3, 3])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.float32], ids=str)
def test_division_and_remainders_of_every_sign(matches_eager, dtype, divisor):
    def divide(x, y):
        return (
            torch.div(x, y, rounding_mode="floor"),
            torch.div(x, y, rounding_mode="trunc"),
            torch.remainder(x, y),
            torch.fmod(x, y),
            x // divisor,
            divisor % torch.where(x == 0, torch.ones_like(x), x),
        )

    matches_eager(divide, SIGNS.to(dtype), torch.full((7,), divisor, dtype=dtype))


def test_floor_division_of_floats_at_its_corners(matches_eager):
    x = torch.tensor([1.0, -1.0, 0.0, -0.0, INF, NAN, 0.3, 1e30, 5.0])
    y = torch.tensor([0.0, 0.0, 0.0, 2.0, 2.0, 1.0, 0.1, 3.0, -INF])
    matches_eager(lambda x, y: torch.div(x, y, rounding_mode="floor"), x, y)


def test_integer_powers_wrap_and_invert(matches_eager):
    base, exponent = torch.tensor([2, -2, 1, -1, 0, 3, 7]), torch.tensor([62, 63, -5, -3, 0, 40, 2])
    matches_eager(lambda b, e: (b**e, b**3, b**0), base, exponent)


@pytest.mark.parametrize("exponent", [2, 3, -1, -2, 0.5, -0.5, 0, 1.5, 4], ids=str)
def test_powers_with_known_exponents(matches_eager, exponent):
    matches_eager(lambda x: x**exponent, torch.tensor([0.5, 1.0, 2.0, 9.0]))


@pytest.mark.parametrize("shift", [0, 1, 7, 8, 31])
def test_shifts_up_to_and_past_the_width(matches_eager, shift):
    x = torch.tensor([1, -1, 127, -128], dtype=torch.int8)
    matches_eager(lambda x: (x << min(shift, 7), x >> shift), x)


def test_extremes_prefer_nan_and_the_first_position(matches_eager):
    x = torch.tensor([[1.0, 5.0, 5.0], [NAN, 1.0, NAN], [-INF, -INF, -INF]])
    matches_eager(lambda x: (x.max(1), x.min(1), x.argmax(1), x.argmin(), x.amax(0), torch.aminmax(x, dim=1)), x)


def test_reductions_of_nothing(matches_eager):
    x = torch.empty(0, 3)
    matches_eager(lambda x: (x.sum(), x.prod(0), x.mean(0), x.any(), x.all(0), x.sum(0), torch.logsumexp(x, 0)), x)


def test_logsumexp_at_the_ends(matches_eager):
    x = torch.tensor([[1e4, 1e4], [-INF, -INF], [INF, 1.0], [NAN, 0.0]])
    matches_eager(lambda x: torch.logsumexp(x, 1), x)


def test_softmax_of_a_masked_row_is_as_eager(matches_eager):
    x = torch.tensor([[0.0, -INF], [-INF, -INF]])
    matches_eager(lambda x: (torch.softmax(x, 1), torch.log_softmax(x, 1), torch.ops.aten._safe_softmax(x, 1)), x)


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2)], ids=["equal-heads", "grouped-queries"])
def test_attention_and_its_gradients(causal, heads):
    queries, keys = heads
    torch._dynamo.reset()
    inputs = [torch.randn(2, h, 5, 8, requires_grad=True) for h in (queries, keys, keys)]

    def attend(q, k, v):
        out = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=causal, enable_gqa=queries != keys, scale=0.3
        )
        return out.square().sum()

    theirs = torch.autograd.grad(attend(*inputs), inputs)
    ours = torch.autograd.grad(torch.compile(attend, backend="tpu", fullgraph=True)(*inputs), inputs)
    for actual, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("mask", ["boolean", "additive", "a-row-sees-nothing"])
def test_attention_masks(matches_eager, mask):
    q = torch.randn(2, 3, 4, 8)
    seen = torch.rand(4, 4) > 0.4
    seen.fill_diagonal_(True)
    if mask == "a-row-sees-nothing":
        seen[1] = False
    given = torch.randn(4, 4) if mask == "additive" else seen
    attend = torch.nn.functional.scaled_dot_product_attention
    matches_eager(lambda q, m: attend(q, q, q, attn_mask=m), q, given)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
def test_convolutions_and_their_gradients(rank, transposed):
    torch._dynamo.reset()
    spatial = (6,) * rank
    x = torch.randn(2, 4, *spatial, requires_grad=True)
    weight = torch.randn(4, 3 if transposed else 2, *(3,) * rank, requires_grad=True)
    bias = torch.randn(6 if transposed else 4, requires_grad=True)
    name = f"conv{'_transpose' if transposed else ''}{rank}d"
    convolve = getattr(torch.nn.functional, name)

    def model(x, weight, bias):
        return convolve(x, weight, bias, stride=2, padding=1, dilation=1, groups=2).square().sum()

    theirs = torch.autograd.grad(model(x, weight, bias), (x, weight, bias))
    ours = torch.autograd.grad(torch.compile(model, backend="tpu", fullgraph=True)(x, weight, bias), (x, weight, bias))
    for actual, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_views_of_memory(matches_eager):
    x = torch.randn(4, 6)
    matches_eager(lambda x: (x.as_strided((3, 2), (6, 2), 1), x.t().as_strided((24,), (1,), 0) + 1), x)


def test_float_to_integer_casts_drop_the_fraction(matches_eager):
    x = torch.tensor([-2.7, -0.5, 0.5, 2.7, 255.0])
    matches_eager(lambda x: (x.to(torch.int32), x.to(torch.int64), x.abs().to(torch.uint8), x.to(torch.bool)), x)


def test_floats_that_a_narrow_integer_cannot_hold_wrap(matches_eager):
    x = torch.tensor([-1.5, 300.0, -129.0, 70000.0, float("nan")])
    matches_eager(lambda x: (x.to(torch.uint8), x.to(torch.int8), x.to(torch.int16)), x)


def test_predicates_and_signs_of_special_values(matches_eager):
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, -2.0])
    matches_eager(lambda x: (x.isfinite(), x == x, x != x, (x + 1) == (x + 1), torch.sign(x), torch.angle(x)), x)


@pytest.mark.parametrize("count", [1, 9, 300])
def test_constants_of_every_dtype(matches_eager, count):
    flags, numbers = [i % 3 == 0 for i in range(count)], list(range(count))

    def function(x):
        small = torch.tensor(numbers, dtype=torch.uint8) if count < 100 else torch.tensor(numbers)
        mask = torch.tensor(flags)
        return torch.where(mask, x, 0), mask & torch.tensor(False), x + small, x * torch.tensor([1j])

    matches_eager(function, torch.randn(count))


def test_nonzero_static_of_nothing(matches_eager):
    matches_eager(lambda x: torch.nonzero_static(x, size=3), torch.zeros(5, 0, 2))


@pytest.mark.parametrize("batch_first", [False, True], ids=["steps-first", "batch-first"])
@pytest.mark.parametrize("bias", [False, True], ids=["no-bias", "bias"])
def test_an_lstm_for_inference_is_lowered_by_the_layer(matches_eager, bias, batch_first):
    lstm = torch.nn.LSTM(5, 7, num_layers=2, bias=bias, batch_first=batch_first, bidirectional=True).eval()
    with torch._dynamo.config.patch(allow_rnn=True), torch.no_grad():
        matches_eager(lstm, torch.randn(4, 3, 5))


@pytest.mark.parametrize("rank", [2, 3])
def test_fractional_pooling_without_a_batch_takes_the_first_samples(matches_eager, rank):
    pool = getattr(torch.nn.functional, f"fractional_max_pool{rank}d")
    samples = torch.rand(2, 4, rank)
    matches_eager(lambda x, s: pool(x, 2, 2, None, True, s), torch.randn(4, *[5] * rank), samples)


@pytest.mark.parametrize("reduce", ["amax", "amin"])
def test_segments_are_reduced_by_both_names_of_extremes(reduce):
    data, offsets = torch.arange(12.0).view(6, 2), torch.tensor([0, 2, 2, 6])

    def function(data, offsets):
        return torch.segment_reduce(data, reduce, offsets=offsets)

    assert torch.equal(torch.compile(function, backend="tpu")(data, offsets), function(data, offsets))
