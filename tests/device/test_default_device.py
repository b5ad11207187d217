"""torch.set_default_device("tpu") and `with torch.device("tpu")`: all that this project does goes on working."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tpu_dynamo


@pytest.fixture(params=["set", "with"])
def on_the_device(request: pytest.FixtureRequest) -> Iterator[None]:
    """The device as the default: set, beside another default dtype; and as a context."""
    if request.param == "with":
        with torch.device("tpu"):
            yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("tpu")
    yield
    torch.set_default_device(None)
    torch.set_default_dtype(before)


COMPILED = {
    "dropout": lambda x: F.dropout(x),
    "randn": lambda x: x + torch.randn(4),
    "constants": lambda x: x * torch.tensor(3.0) + torch.arange(4) + torch.ones(4),
    "decompositions": lambda x: F.huber_loss(x, 2 * x) + torch.nan_to_num(x).std() + torch.special.xlog1py(x, x),
    "samples": lambda x: torch.multinomial(x.softmax(-1), 2).sum() + torch.bernoulli(x.sigmoid()),
}
# What these make lies on the CPU, whatever the default is.
COMPILED_ON_CPU = {
    "dropout": COMPILED["dropout"],
    "rand": lambda x: x + torch.rand(4, device="cpu") + torch.randn_like(x),
    "decompositions": COMPILED["decompositions"],
    "samples": COMPILED["samples"],
    "transposed": lambda x: (x.view(2, 2).t() @ x.view(2, 2)).contiguous() + torch.arange(2, device="cpu"),
}


# Eager draws other numbers than a compiled function does.
RANDOM = {"dropout", "randn", "rand", "samples"}


def check(name, function, x) -> None:
    out = torch.compile(function, backend="tpu", fullgraph=True)(x)
    expected = function(x)
    assert (out.shape, out.dtype, out.device) == (expected.shape, expected.dtype, expected.device)
    if name not in RANDOM:
        torch.testing.assert_close(out.cpu(), expected.cpu())


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_functions(name, on_the_device):
    check(name, COMPILED[name], torch.arange(4.0) / 4)


@pytest.mark.parametrize("on_the_device", ["set"], indirect=True)
@pytest.mark.parametrize("name", COMPILED_ON_CPU)
def test_compiled_functions_of_cpu_tensors(name, on_the_device):
    check(name, COMPILED_ON_CPU[name], torch.arange(4.0, device="cpu") / 4)


@pytest.mark.parametrize("on_the_device", ["set"], indirect=True)
def test_sizes_that_come_later(on_the_device):
    compiled = torch.compile(lambda x: F.dropout(x) @ torch.ones(4, 3) + torch.randn(3), backend="tpu", dynamic=True)
    assert [tuple(compiled(torch.ones(n, 4)).shape) for n in (2, 3, 5)] == [(2, 3), (3, 3), (5, 3)]


@pytest.mark.parametrize("on_the_device", ["set"], indirect=True)
def test_training_in_eager_compiled_and_as_one_step(on_the_device):
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.1), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.randn(6, 4), torch.randint(3, (6,))

    def step(forward) -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(forward(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    step(model)
    compiled = torch.compile(model, backend="tpu", fullgraph=True)
    losses = [step(compiled) for _ in range(10)]
    whole = tpu_dynamo.train_step(model, optimizer, F.cross_entropy, max_grad_norm=1.0)
    losses += [whole(x, y).item() for _ in range(10)]
    assert losses[-1] < losses[9] < losses[0]
    assert all(parameter.device.type == "tpu" for parameter in model.parameters())


@pytest.mark.parametrize("on_the_device", ["set"], indirect=True)
def test_ahead_of_time(on_the_device):
    for device in ("cpu", "tpu"):
        model = nn.Sequential(nn.Linear(4, 4, device=device), nn.Dropout(0.5))
        (graph,) = tpu_dynamo.compile_for(model, (torch.randn(2, 4, device=device),), target="cpu")
        assert graph.executable
