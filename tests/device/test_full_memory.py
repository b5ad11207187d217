"""Memory that is full: PyTorch's own error, what it says, and a device that goes on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import tpu_dynamo
from tpu_dynamo.device import torch_memory
from tpu_dynamo_runtime import pjrt

TOO_LARGE = 2**44


@pytest.mark.parametrize("compiled", [False, True])
def test_no_room_is_pytorchs_error_and_the_device_goes_on(compiled):
    def spread(x):
        return x.expand(TOO_LARGE).clone()

    run = torch.compile(spread, backend="tpu", fullgraph=True) if compiled else spread
    x = torch.ones(1, device="tpu")
    with pytest.raises(
        torch.OutOfMemoryError, match=r"device is out of memory\.(.|\n)*(RESOURCE_EXHAUSTED|can't allocate)"
    ) as caught:
        run(x)
    assert isinstance(caught.value, tpu_dynamo.DeviceOutOfMemory)
    assert str(caught.value).endswith("TPU506: `tpu-dynamo explain TPU506` says more")
    assert "  it holds " in str(caught.value)
    assert (x + 1).item() == 2


class LateBuffer:
    """A buffer of an execution that fails behind Python, as a device with a queue of its own has it."""

    nbytes = 2**40

    def __init__(self, message):
        self.error = pjrt.XlaRuntimeError(message)

    def block_until_ready(self):
        raise self.error

    def copy_to_host_async(self):
        raise self.error


STATS = {"bytes_in_use": 3 * 2**30, "bytes_limit": 4 * 2**30, "pool_bytes": 2**32, "bytes_reserved": 0}


def client_of(buffer):
    made = object.__new__(pjrt.Client)
    made._client = SimpleNamespace(live_buffers=lambda: [buffer])
    made.device = SimpleNamespace(memory_stats=lambda: STATS)
    return made


@pytest.mark.parametrize("ask", [lambda c, b: c.synchronise(), lambda c, b: c.take_copied([b])], ids=["wait", "take"])
def test_an_error_that_comes_late_is_told_where_values_are_asked_for(ask):
    full = LateBuffer("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1.00GiB.")
    with pytest.raises(tpu_dynamo.DeviceOutOfMemory, match=r"3\.00 GiB of 4\.00 GiB are in use"):
        ask(client_of(full), full)
    broken = LateBuffer("INTERNAL: a kernel failed")
    with pytest.raises(pjrt.XlaRuntimeError, match="INTERNAL: a kernel failed"):
        ask(client_of(broken), broken)


def test_what_a_gpu_reports_as_its_pool_is_reserved(monkeypatch):
    monkeypatch.setattr(torch_memory, "in_use", lambda: True)
    monkeypatch.setattr(torch_memory, "device_client", lambda: client_of(SimpleNamespace(nbytes=2**20)))
    assert torch.tpu.memory_reserved() == torch.tpu.max_memory_reserved() == 2**32


def test_a_full_device_says_what_holds_it_and_what_would_need_less():
    model = torch.nn.Sequential(*(torch.nn.Linear(256, 256) for _ in range(4))).to("tpu")
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(64, 256, device="tpu")).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    loss = model(torch.ones(4096, 256, device="tpu")).square().mean()
    with pytest.raises(tpu_dynamo.DeviceOutOfMemory) as caught:
        torch.ones(1, device="tpu").expand(TOO_LARGE).clone()
    said = str(caught.value)
    assert "saved for the backward float32[4096, 256]" in said.replace("f32", "float32")
    assert "optimizer state 2.0 MiB" in said
    assert "optimizer state in bfloat16: about 1.0 MiB less" in said
    assert "a batch of 2048 instead of 4096" in said
    assert loss.item() == loss.item()
