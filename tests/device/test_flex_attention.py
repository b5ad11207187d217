"""flex_attention on the device, in eager and compiled: values, gradients, masks and captured tensors of the CPU's."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention.flex_attention import AuxRequest, create_block_mask, flex_attention

from tpu_dynamo.ahead_of_time.target_graphs import lower_model
from tpu_dynamo.options import Options
from tpu_dynamo_lowering import jax_compat

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


def causal(b, h, i, j):
    return i >= j


def rows_without_keys(b, h, i, j):
    return (i >= j) & (i % 3 > 0)


def window(b, h, i, j):
    return (i >= j) & (i - j < 5)


def window_ahead(b, h, i, j):
    """A window of which the last queries see nothing."""
    return (j >= i + 3) & (j < i + 9)


def capped(score, b, h, i, j):
    return 2 * torch.tanh(score / 2)


MASKS = {
    "none": None,
    "causal": causal,
    "window": window,
    "window-ahead": window_ahead,
    "rows-without-keys": rows_without_keys,
}


def tensors():
    numbers = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 32, 8), (2, 2, 32, 8), (2, 2, 32, 8), (4, 32))
    return [torch.randn(shape, generator=numbers) for shape in shapes]


def attend(query, key, value, bias, mask, score=None):
    def biased(scores, b, h, i, j):
        return capped(scores, b, h, i, j) + bias[h, j]

    return flex_attention(query, key, value, score_mod=score or biased, block_mask=mask, enable_gqa=True)


def plainly(query, key, value, bias, mask):
    """Attention by PyTorch's operators, in float64."""
    query, key, value, bias = (x.double() for x in (query, key, value, bias))
    key, value = (x.repeat_interleave(2, 1) for x in (key, value))
    scores = 2 * torch.tanh(query @ key.mT / 8**0.5 / 2) + bias[:, None]
    if mask is not None:
        i, j = torch.arange(32)[:, None], torch.arange(32)[None]
        scores = scores.masked_fill(~mask(0, 0, i, j), -torch.inf)
    return torch._safe_softmax(scores, -1) @ value


def with_gradients(function, *given):
    leaves = [x.detach().clone().requires_grad_() for x in given]
    out = function(*leaves)
    return [x.detach().cpu() for x in (out, *torch.autograd.grad(out.square().sum(), leaves))]


@pytest.mark.parametrize(
    ("mask", "compiled"),
    [
        pytest.param("none", True, id="no-mask"),
        pytest.param("causal", True, id="causal"),
        pytest.param("rows-without-keys", True, id="rows-without-keys"),
        pytest.param("rows-without-keys", False, id="eager", marks=pytest.mark.slow),
    ],
)
def test_values_and_gradients(mask, compiled):
    function = MASKS[mask]
    blocks = create_block_mask(function, None, None, 32, 32, device="tpu", BLOCK_SIZE=16) if function else None

    def on_device(*given):
        return attend(*given, blocks)

    called = torch.compile(on_device, backend="tpu", fullgraph=True) if compiled else on_device
    found = with_gradients(called, *(x.to("tpu") for x in tensors()))
    expected = with_gradients(lambda *given: plainly(*given, function), *tensors())
    for each, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(each.double(), wanted.double(), rtol=1e-4, atol=1e-4)


def in_float64(query, key, value, mask, score):
    """Attention by PyTorch's operators, and the log of each denominator."""
    query, key, value = (x.double() for x in (query, key, value))
    key, value = (x.repeat_interleave(2, 1) for x in (key, value))
    scores = score(query @ key.mT / 8**0.5, 0, 0, 0, 0)
    if mask is not None:
        scores = scores.masked_fill(~mask(0, 0, torch.arange(32)[:, None], torch.arange(32)[None]), -torch.inf)
    return torch._safe_softmax(scores, -1) @ value, scores.logsumexp(-1)


def flexible(mask, score):
    """A function of query, key and value on the CPU or the device, which gives the output and the denominators."""

    def function(query, key, value):
        blocks = create_block_mask(mask, None, None, 32, 32, query.device, BLOCK_SIZE=16) if mask else None
        more = {"enable_gqa": True, "return_aux": AuxRequest(lse=True)}
        out, aux = flex_attention(query, key, value, score, blocks, **more)
        return out, aux.lse

    return function


@pytest.mark.parametrize("mask", ["causal", "window-ahead", pytest.param("none", marks=pytest.mark.slow)])
def test_the_kernel_has_the_values_and_gradients(mask):
    def with_both(function, *given):
        leaves = [x.detach().clone().requires_grad_() for x in given]
        out, lse = function(*leaves)
        seen = lse.isfinite()
        loss = out.square().sum() + lse.where(seen, 0).sin().sum()
        return [x.detach().cpu().double() for x in (out, lse, *torch.autograd.grad(loss, leaves))]

    called = torch.compile(flexible(MASKS[mask], capped), backend="tpu", options={"attention": "fused"})
    found = with_both(called, *(x.to("tpu") for x in tensors()[:3]))
    expected = with_both(lambda *given: in_float64(*given, MASKS[mask], capped), *tensors()[:3])
    for each, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(each, wanted, rtol=1e-4, atol=1e-4)


def squared(score, b, h, i, j):
    return score * score


def by_head(score, b, h, i, j):
    return 2 * torch.tanh(score / 2) + h


TAKEN = {
    "cap": ("causal", capped, 3),
    "cap-and-window": ("window", capped, 3),
    "no-score": ("window", None, 3),
    "rows-without-keys": ("window-ahead", capped, 3),
    "another-mask": ("rows-without-keys", capped, 0),
    "another-score": ("causal", squared, 0),
    "more-than-a-cap": ("causal", by_head, 0),
}


@pytest.mark.parametrize("case", TAKEN)
def test_a_cap_and_a_window_take_the_kernel_and_nothing_else(case):
    mask, score, kernels = TAKEN[case]
    given = [x.to("meta").requires_grad_() for x in tensors()[:3]]

    def attend(query, key, value):
        return flexible(MASKS[mask], score)(query, key, value)[0]

    graphs = lower_model(attend, given, None, "tpu", Options(attention="fused"), training=True)
    texts = [jax_compat.as_text(graph.program.stablehlo) for graph in graphs]
    assert sum(text.count("@tpu_custom_call") for text in texts) == kernels


def test_denominators_and_largest_scores():
    query, key, value, _ = (x.to("tpu") for x in tensors())

    @torch.compile(backend="tpu", fullgraph=True)
    def both(query, key, value):
        return flex_attention(query, key, value, enable_gqa=True, return_aux=AuxRequest(lse=True, max_scores=True))

    _, found = both(query, key, value)
    scores = tensors()[0] @ tensors()[1].repeat_interleave(2, 1).mT / 8**0.5
    torch.testing.assert_close(found.lse.cpu(), scores.logsumexp(-1))
    torch.testing.assert_close(found.max_scores.cpu(), scores.amax(-1))


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_autocast(compiled):
    def in_autocast(*given):
        with torch.autocast("tpu", dtype=torch.bfloat16):
            return attend(*given, None, capped)

    called = torch.compile(in_autocast, backend="tpu", fullgraph=True) if compiled else in_autocast
    given = [x.to("tpu") for x in tensors()]
    assert called(*given).dtype == torch.bfloat16


def test_other_devices_are_refused_as_before():
    query = torch.randn(1, 1, 16, 8, device="meta")
    with pytest.raises(ValueError, match="only supported on"):
        flex_attention(query, query, query)
