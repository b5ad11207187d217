"""flex_attention on the device, in eager and compiled: values, gradients, masks and captured tensors of the CPU's."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention.flex_attention import AuxRequest, create_block_mask, flex_attention

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


def causal(b, h, i, j):
    return i >= j


def rows_without_keys(b, h, i, j):
    return (i >= j) & (i % 3 > 0)


def capped(score, b, h, i, j):
    return 2 * torch.tanh(score / 2)


MASKS = {"none": None, "causal": causal, "rows-without-keys": rows_without_keys}


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
