"""Fused optimizers and gradient scalers on the device: numbers as on the CPU, one program each, nothing crosses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import tpu_dynamo

Optim = torch.optim

CASES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": lambda p: Optim.AdamW(p, 0.01, fused=True),
    "adamw-amsgrad-maximize": lambda p: Optim.AdamW(p, 0.01, amsgrad=True, maximize=True, fused=True),
    "adam-decay-tensor": lambda p: Optim.Adam(p, torch.tensor(0.01), weight_decay=0.1, fused=True),
    "adam-betas": lambda p: Optim.Adam(p, 0.02, betas=(0.5, 0.75), eps=1e-3, amsgrad=True, fused=True),
    "sgd": lambda p: Optim.SGD(p, 0.1, weight_decay=0.1, fused=True),
    "sgd-nesterov": lambda p: Optim.SGD(p, 0.1, momentum=0.9, nesterov=True, maximize=True, fused=True),
    "sgd-dampening-tensor": lambda p: Optim.SGD(p, torch.tensor(0.1), momentum=0.9, dampening=0.3, fused=True),
    "adagrad": lambda p: Optim.Adagrad(p, 0.1, lr_decay=0.1, weight_decay=0.1, fused=True),
    "adagrad-tensor": lambda p: Optim.Adagrad(p, torch.tensor(0.1), fused=True),
}


def trained(make: Callable[..., torch.optim.Optimizer], device: str, dtype: torch.dtype, scaled: bool) -> list[Any]:
    """Return parameters and state after three steps, the second with an infinite gradient where they are scaled."""
    torch.manual_seed(0)
    shapes = ((3, 4), (), (5,))
    parameters = [torch.nn.Parameter(torch.randn(shape).to(device, dtype)) for shape in shapes]
    optimizer, scaler = make(parameters), torch.amp.GradScaler(device, init_scale=8.0, growth_interval=2)
    optimizer.step()  # without gradients nothing happens
    for step in range(3):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape).to(device, dtype)
        if scaled and step == 1:
            parameters[0].grad.view(-1)[1] = float("inf")
        if scaled:
            scaler.scale(torch.ones((), device=device))
            scaler.step(optimizer)
            scaler.update()
        else:
            optimizer.step()
        if step == 0:
            tpu_dynamo.reset_stats()
            rate = optimizer.param_groups[0]["lr"]
            optimizer.param_groups[0]["lr"] = rate * 0.5
    state = [value for p in parameters for value in optimizer.state[p].values() if value is not None]
    return [value.detach().cpu() for value in (*parameters, *[p.grad for p in parameters], *state)]


SCALED = [(name, True, torch.bfloat16) for name in ("adamw", "adam-betas", "sgd-nesterov", "adagrad-tensor")]


@pytest.mark.parametrize(
    ("name", "scaled", "dtype"),
    [pytest.param(*case, id=f"{case[0]}-{'scaled' if case[1] else 'plain'}")
     for case in [*((name, False, torch.float32) for name in CASES), *SCALED]],
)  # fmt: skip
def test_a_fused_step_is_the_cpus(name, scaled, dtype):
    expected = trained(CASES[name], "cpu", dtype, scaled)
    actual = trained(CASES[name], "tpu", dtype, scaled)
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    stats = tpu_dynamo.stats()
    assert not stats.fallbacks
    assert scaled or stats.lowerings <= 2 + name.startswith("sgd-")  # another learning rate is the same program


def test_a_scaled_step_crosses_with_one_number():
    model = torch.nn.Linear(64, 64).to("tpu")
    optimizer, scaler = Optim.AdamW(model.parameters(), fused=False), torch.amp.GradScaler("tpu")

    def step() -> None:
        scaler.scale(model(torch.ones(1, 64, device="tpu")).sum()).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    step()
    step()
    tpu_dynamo.reset_stats()
    step()
    stats = tpu_dynamo.stats()
    assert not stats.fallbacks and not stats.lowerings
    assert stats.bytes_to_host <= 16


@pytest.mark.parametrize("scale", [8.0, 3e38], ids=["usual", "would-be-infinite"])
@pytest.mark.parametrize("found", [0.0, 1.0])
def test_the_scale_is_updated_as_on_the_cpu(scale, found):
    results = []
    for device in ("cpu", "tpu"):
        value, tracker = torch.tensor([scale], device=device), torch.tensor([1], dtype=torch.int32, device=device)
        again = torch.ops.aten._amp_update_scale_(value, tracker, torch.tensor([found], device=device), 2.0, 0.5, 2)
        assert again is value
        results.append((value.item(), tracker.item()))
    assert results[0] == results[1]


def test_a_compiled_fused_step_is_the_cpus():
    results = []
    for compiled in (False, True):
        torch.manual_seed(0)
        parameters = [torch.nn.Parameter(torch.randn(3, 4)), torch.nn.Parameter(torch.randn(5))]
        optimizer = Optim.AdamW(parameters, fused=True)
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        step = torch.compile(optimizer.step, backend="tpu") if compiled else optimizer.step
        step()
        results.append([p.detach() for p in parameters])
    for ours, theirs in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(ours, theirs)
