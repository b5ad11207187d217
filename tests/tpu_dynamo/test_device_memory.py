"""Live bytes by owner, and that they go when their owners go."""

from __future__ import annotations

import gc
import sys
import threading

import pytest
import torch
from torch import nn

import tpu_dynamo
from tpu_dynamo.device import references


@pytest.fixture(autouse=True)
def nothing_before():
    torch._dynamo.reset()
    gc.collect()
    before = tpu_dynamo.memory()
    yield before
    gc.collect()


def test_parameters_gradients_state_activations_and_outputs_are_told_apart(nothing_before):
    def grown(field):
        return getattr(tpu_dynamo.memory(), field) - getattr(nothing_before, field)

    model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 4)).to("tpu")
    count = sum(p.nbytes for p in model.parameters())
    assert grown("parameters") == count
    optimizer = torch.optim.Adam(model.parameters())
    x = torch.randn(8, 16).to("tpu")
    assert grown("tensors") == x.nbytes
    loss = model(x).square().mean()
    assert grown("activations") >= 8 * 32 * 4  # what tanh saved
    loss.backward()
    assert grown("gradients") == count
    optimizer.step()
    assert grown("optimizer_state") >= 2 * count
    del model, optimizer, x, loss
    assert all(grown(field) == 0 for field in ("parameters", "gradients", "optimizer_state", "tensors", "activations"))


def test_what_a_compiled_graph_saves_goes_with_its_backward(nothing_before):
    model = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 4)).to("tpu")
    compiled = torch.compile(model, backend="tpu")
    loss = compiled(torch.randn(32, 16).to("tpu")).square().mean()
    saved = tpu_dynamo.memory().activations - nothing_before.activations
    assert saved >= 32 * 64 * 4
    loss.backward()
    assert tpu_dynamo.memory().activations - nothing_before.activations < saved


def test_copies_of_a_cpu_models_parameters_go_with_it(nothing_before):
    model = nn.Linear(64, 64)
    compiled = torch.compile(model, backend="tpu", options={"transfer": "copy"})
    with torch.no_grad():
        compiled(torch.ones(2, 64))
    assert tpu_dynamo.memory().parameters - nothing_before.parameters == sum(p.nbytes for p in model.parameters())
    del model, compiled
    torch._dynamo.reset()
    assert tpu_dynamo.memory().parameters == nothing_before.parameters


def test_printed_for_people(nothing_before):
    held = torch.ones(1000).to("tpu")
    assert "total: " in str(tpu_dynamo.memory())
    assert tpu_dynamo.memory().total >= held.nbytes


def test_many_threads_call_the_same_and_different_functions():
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)).eval() for _ in range(3)]
    compiled = [torch.compile(model, backend="tpu") for model in models]
    x = [torch.randn(4, 8) for _ in range(8)]
    with torch.no_grad():
        for run in compiled:
            run(x[0])
        expected = [[model(each) for each in x] for model in models]
    wrong: list[str] = []

    def work(number: int) -> None:
        with torch.no_grad():
            for turn in range(60):
                which, batch = (number + turn) % 3, (number * turn) % 8
                # Inputs that come and go, at addresses that others had before.
                if not torch.allclose(compiled[which](x[batch].clone()), expected[which][batch], atol=1e-5):
                    wrong.append(f"thread {number}, turn {turn}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("more", [0, -1, 2])
def test_what_python_holds_is_no_activation_however_this_python_counts(nothing_before, monkeypatch, more):
    if more:
        monkeypatch.setattr(references, "getrefcount", lambda held: sys.getrefcount(held) + more)
    weight = torch.ones(100).to("tpu").requires_grad_()

    def grown():
        now = tpu_dynamo.memory()
        return now.activations - nothing_before.activations, now.tensors - nothing_before.tensors

    def nested(local):  # a variable of a function that runs, which no search for referrers finds
        product = (weight * local).sum()
        held = grown()
        return product, held

    def factor():
        return torch.full((100,), 2.0).to("tpu")

    product, held = nested(factor())
    assert held == (0, weight.nbytes * 2 + product.nbytes)
    assert grown() == (weight.nbytes, weight.nbytes + product.nbytes)
    product.backward()
    del product
    assert grown()[0] == 0
