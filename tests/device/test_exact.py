"""Operators that round nothing: on XLA's CPU client they compile nothing, whatever the sizes are."""
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import tpu_dynamo


def check(function: Callable[[str], Any]) -> None:
    """A function of a device gives on the device what it gives on the CPU."""
    ours, theirs = function("tpu"), function("cpu")
    ours, theirs = (one if isinstance(one, tuple | list) else (one,) for one in (ours, theirs))
    assert [one.device.type for one in ours] == ["tpu"] * len(ours)
    assert [one.stride() for one in ours] == [one.stride() for one in theirs]
    torch.testing.assert_close([one.cpu() for one in ours], list(theirs), rtol=0, atol=0)


def ids(device: str, count: int = 6) -> Tensor:
    return torch.arange(2 * count).view(2, count).to(device) % 5


def floats(device: str, count: int = 6) -> Tensor:
    return torch.linspace(-1, 1, 4 * count).view(2, count, 2).to(device)


def a_step_of_generation(device: str, count: int) -> tuple[Tensor, ...]:
    """Return what a loop that generates computes besides the model, with another length at every token."""
    tokens = ids(device, count)
    mask = (tokens != 0).long()
    positions = (mask.cumsum(-1) - 1).masked_fill_(mask == 0, 1)[:, -1:]
    ended = torch.isin(tokens[:, -1], torch.tensor([1, 2], device=device))
    longer = torch.cat([tokens, torch.where(ended, 0, tokens[:, 0])[:, None]], dim=-1)
    causal = torch.arange(count, device=device) <= positions[:, :, None]
    cache = torch.cat([floats(device, count), floats(device, 1)], dim=1).index_select(0, ended.long())
    return mask, positions, ended, longer, causal, cache, ended.all(), cache[:, 1:, :1].clone(), cache.to(torch.float16)


def test_lengths_compile_nothing():
    before = tpu_dynamo.stats()
    for count in range(4, 9):
        check(lambda device: a_step_of_generation(device, count))
    after = tpu_dynamo.stats()
    assert (after.lowerings, after.executions) == (before.lowerings, before.executions)
    assert after.fallbacks == before.fallbacks


def written(device: str, write: Callable[[Tensor], Any]) -> tuple[Tensor, Tensor]:
    base = ids(device)
    kept = base.clone()
    write(base)
    return base, kept


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda x: x[:, 1:3].fill_(7), id="slice"),
        pytest.param(lambda x: x.t()[::2].add_(x[0, 0]), id="strided-view"),
        pytest.param(lambda x: x[0].copy_(x[1]), id="row-of-itself"),
        pytest.param(lambda x: torch.add(x[0], x[1], out=x[1]), id="out-that-is-read"),
        pytest.param(lambda x: torch.cat([x, x], out=torch.empty(0, dtype=x.dtype, device=x.device)), id="empty-out"),
        pytest.param(lambda x: x.masked_fill_(x == 2, -1), id="mask"),
        pytest.param(lambda x: x.index_copy_(1, x[0, :2].clone(), -x[:, :2]), id="places"),
        pytest.param(lambda x: x.bitwise_or_(1), id="number"),
    ],
)
def test_writes_are_seen_where_eager_sees_them(write: Callable[[Tensor], Any]):
    check(lambda device: written(device, write))


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda x: x / 3, id="quotient"),
        pytest.param(lambda x: x.float().mean(0), id="mean"),
        pytest.param(lambda x: x.sum(dtype=torch.float32), id="sum"),
        pytest.param(lambda x: torch.sqrt(x), id="root"),
        pytest.param(lambda x: x * 0.5, id="product"),
    ],
)
def test_what_rounds_is_a_program(function: Callable[[Tensor], Tensor]):
    before = tpu_dynamo.stats().executions
    torch.testing.assert_close(function(ids("tpu")).cpu(), function(ids("cpu")))
    assert tpu_dynamo.stats().executions > before


def test_an_index_out_of_range_is_refused_as_on_the_cpu():
    with pytest.raises(IndexError, match="out of range"):
        ids("tpu").index_select(0, torch.tensor([9], device="tpu"))


def test_memory_that_was_looked_at_is_freed_and_donated():
    tensor = torch.zeros(1000, 1000, device="tpu")
    before = torch.tpu.memory_allocated()
    assert tensor[1:, :3].clone().shape == (999, 3)
    del tensor
    assert torch.tpu.memory_allocated() < before - 3_000_000


def test_attention_to_a_growing_cache_is_one_program():
    def attend(device: str, keys: int, mask: bool) -> Tensor:
        values = torch.linspace(-2, 2, 2 * keys * 4).view(1, 2, keys, 4).to(device)
        seen = (torch.arange(keys) > 1)[None].to(device) if mask else None
        return torch.nn.functional.scaled_dot_product_attention(values[:, :, -1:], values, values, attn_mask=seen)

    for mask in (False, True):
        attend("tpu", 5, mask)
        before = tpu_dynamo.stats().lowerings
        for keys in (6, 9, 63):
            torch.testing.assert_close(attend("tpu", keys, mask).cpu(), attend("cpu", keys, mask))
        assert tpu_dynamo.stats().lowerings == before
