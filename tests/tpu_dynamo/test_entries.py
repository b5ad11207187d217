"""The names that entries of the cache have: those of the user's functions and models, whatever wraps them."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest
import torch

import tpu_dynamo
from tpu_dynamo.cache.entries import describe
from tpu_dynamo_runtime.store import entries, open_store


def named() -> set[str | None]:
    """The graphs' names of the entries of this test's cache."""
    return {item.graph for item in describe(entries(open_store(Path(os.environ["TPU_DYNAMO_CACHE_DIR"]))))}


def wrapped(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


class Plain(torch.nn.Module):
    def forward(self, x):
        return x.relu()


class Decorated(torch.nn.Module):
    @wrapped
    def forward(self, x, y=None):
        return self.other(x) if y is None else x + y

    def other(self, x):
        return x.sin()


def many(a, b, c, d):
    return a + b + c + d


@pytest.mark.parametrize(
    ("model", "inputs", "name"),
    [
        pytest.param(Plain(), ["x"], "inference Plain(x 2x3)", id="module"),
        pytest.param(torch.nn.Sequential(torch.nn.ReLU()), ["x"], "inference Sequential(2x3)", id="torch's-module"),
        pytest.param(Decorated(), ["x"], "inference Decorated(2x3)", id="decorated"),
        pytest.param(many, "abcd", "inference many(a 2x3, b 2x3, c 2x3, …)", id="function"),
    ],
)
def test_a_graph_is_named_after_the_function_that_it_is_of(model, inputs, name):
    torch.compile(model, backend="tpu")(*(torch.ones(2, 3) for _ in inputs))
    assert named() == {name}


def test_graphs_of_training_are_named_too():
    model = torch.nn.Linear(3, 2)

    def loss(x):
        return model(x).sum()

    torch.compile(loss, backend="tpu")(torch.ones(4, 3)).backward()
    prefix = "test_graphs_of_training_are_named_too.<locals>.loss"
    assert named() == {f"forward {prefix}(x 4x3)", f"backward {prefix}"}


def test_a_training_step_is_named_after_its_model():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(3, 2)

        def forward(self, x):
            return self.linear(x).relu()

    net = Net().to("tpu")
    step = tpu_dynamo.train_step(net, torch.optim.SGD(net.parameters(), lr=0.1), torch.nn.functional.mse_loss)
    step(torch.ones(4, 3, device="tpu"), torch.ones(4, 2, device="tpu"))
    (name,) = (name for name in named() if name is not None and name.startswith("step"))
    assert name.startswith("step test_a_training_step_is_named_after_its_model.<locals>.Net")


def test_a_file_that_says_something_else_is_not_believed(tmp_path):
    store = open_store(tmp_path)
    strange = [
        {"explanation": 1, "program": 2},
        {"explanation": {"inputs": {"L['x']": 3}, "function": "f", "role": []}},
        {},
    ]
    for i, metadata in enumerate(strange):
        assert store.put("program", f"{i:064x}", {}, metadata)
    described = describe(entries(store))
    assert sorted(item.graph or "" for item in described) == ["", "", "f"]
    assert [(item.program, item.platform) for item in described] == [(None, None)] * 3
