"""Views of memory that the host cannot reach: programs read and write them, one for all places of a shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import tpu_dynamo
from tpu_dynamo.device import attention, eager, tensor_memory


@pytest.fixture(autouse=True)
def out_of_reach(monkeypatch: pytest.MonkeyPatch):
    for module in (attention, eager, tensor_memory):
        monkeypatch.setattr(module, "reachable", lambda: False)


def cube(device: str, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.arange(24).view(2, 3, 4).to(dtype).to(device)


def after(write: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    write(x)
    return x


CASES = [
    pytest.param(lambda x: x[1, 1:].clone(), id="slice"),
    pytest.param(lambda x: x.transpose(0, 2)[1::2] + 1, id="transposed"),
    pytest.param(lambda x: x.flatten()[::5].contiguous(), id="stride"),
    pytest.param(lambda x: x[:, :0].clone(), id="empty"),
    pytest.param(lambda x: x.view(4, 6).sum(0), id="other-shape"),
    pytest.param(lambda x: x.expand(2, 2, 3, 4).clone(), id="expanded"),
    pytest.param(lambda x: x.half().double(), id="cast"),
    pytest.param(lambda x: x.to(torch.complex64).mul(1j).conj()[:, 1] + 0, id="conjugated"),
    pytest.param(lambda x: after(lambda y: y[:, 1].fill_(7), x), id="write-slice"),
    pytest.param(lambda x: after(lambda y: y.transpose(0, 1)[2].copy_(y[:, 0]), x), id="write-transposed"),
    pytest.param(lambda x: after(lambda y: y.permute(2, 0, 1).copy_(y.view(4, 2, 3) + 1), x), id="write-order"),
    pytest.param(lambda x: after(lambda y: y[:, 1:2].copy_(y[:1, :1].half()), x), id="write-cast"),
    pytest.param(lambda x: after(lambda y: y[:, 3:].zero_(), x), id="write-nothing"),
]


@pytest.mark.parametrize("function", CASES)
def test_views_are_eagers(function: Callable[[Tensor], Tensor]):
    ours, theirs = function(cube("tpu")), function(cube("cpu"))
    assert (ours.device.type, ours.stride()) == ("tpu", theirs.stride())
    torch.testing.assert_close(ours.cpu(), theirs, rtol=0, atol=0)


def test_places_are_one_program():
    x = cube("tpu")
    x[0, :, 1:3].clone()
    x[0, :, 1:3].zero_()
    before = tpu_dynamo.stats().lowerings
    for start in range(3):
        part = x[1, :, start : start + 2]
        torch.testing.assert_close(part.clone().cpu(), cube("cpu")[1, :, start : start + 2], rtol=0, atol=0)
    x[1, :, :2].zero_()
    assert not x[1, :, :2].cpu().any() and x[1, :, 2:].cpu().all()
    assert tpu_dynamo.stats().lowerings - before <= 1  # that of `2:` alone, by which x ends
