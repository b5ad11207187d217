"""Scalars of parameters in whole steps: equal chains become one on a vector, and the numbers stay."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import tpu_dynamo
from tpu_dynamo.training import whole
from tpu_dynamo.training.stacked_scalars import stack_scalars

aten = torch.ops.aten


def scalar_graph(build):
    """Return a graph of float64 scalars; `build` takes a function that adds an operator, and inputs."""
    graph = torch.fx.Graph()

    def scalar(node):
        node.meta["val"] = torch.empty((), dtype=torch.float64)
        return node

    given = [scalar(graph.placeholder(f"x{i}")) for i in range(4)]
    graph.output(build(lambda target, *args: scalar(graph.call_function(target, args)), *given))
    return graph


def computed(graph, *numbers):
    return torch.fx.GraphModule({}, graph)(*(torch.tensor(n, dtype=torch.float64) for n in numbers))


def count(graph, target):
    return len(graph.find_nodes(op="call_function", target=target))


def corrections(call, a, b, c, rate):
    shared = call(aten.neg.default, rate)
    chains = []
    for step in (a, b, c):
        powers = call(aten.rsub.Scalar, call(aten.pow.Scalar, 0.9, call(aten.add.Tensor, step, 1)), 1)
        chains += [call(aten.div.Tensor, shared, powers), call(aten.sqrt.default, powers)]
    return tuple(chains)


def swapped(call, a, b, c, d):
    """Operators whose operands come in another order than the vectors that they are of, and one operand twice."""
    roots = [call(aten.sqrt.default, x) for x in (a, b, c)]
    pairs = [(roots[2], roots[0]), (roots[0], roots[0]), (roots[1], roots[2])]
    return tuple(call(aten.div.Tensor, *pair) for pair in pairs)


@pytest.mark.parametrize("build, target", [(corrections, aten.pow.Scalar), (swapped, aten.sqrt.default)])
def test_equal_chains_are_one_of_vectors(build, target):
    graph = scalar_graph(build)
    assert count(graph, target) == 3
    expected = computed(copy.deepcopy(graph), 1.0, 2.0, 5.0, 0.5)
    stack_scalars(graph)
    graph.lint()
    assert count(graph, target) == 1
    torch.testing.assert_close(computed(graph, 1.0, 2.0, 5.0, 0.5), expected, rtol=1e-15, atol=0)


def test_equal_scalars_are_computed_once_and_cheap_ones_stay():
    def build(call, a, b, c, d):
        return (*(call(aten.add.Tensor, x, 1) for x in (a, b)), *(call(aten.sqrt.default, c) for _ in range(2)))

    graph = scalar_graph(build)
    expected = computed(copy.deepcopy(graph), 1.0, 2.0, 3.0, 4.0)
    stack_scalars(graph)
    graph.lint()
    assert (count(graph, aten.stack.default), count(graph, aten.sqrt.default)) == (0, 1)
    torch.testing.assert_close(computed(graph, 1.0, 2.0, 3.0, 4.0), expected)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.RAdam, torch.optim.Adafactor])
def test_a_whole_step_has_one_power_of_each_kind_for_all_its_parameters(kind, monkeypatch):
    graphs = []
    monkeypatch.setattr(
        whole, "stack_scalars", lambda graph: (stack_scalars(graph), graph.lint(), graphs.append(graph))
    )
    torch.manual_seed(0)
    expected, x = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4)), torch.randn(16, 8)
    model = copy.deepcopy(expected).to("tpu")
    groups = [{"params": [*m[0].parameters()], "lr": 2e-2} for m in (expected, model)]
    others = [{"params": [*m[1].parameters()], "weight_decay": 0.1} for m in (expected, model)]
    eager, ours = (kind(pair, lr=1e-2) for pair in zip(groups, others, strict=True))
    step = tpu_dynamo.train_step(model, ours, lambda y: y.square().mean())
    for _ in range(3):
        step(x.to("tpu"))
        expected(x).square().mean().backward()
        eager.step()
        eager.zero_grad()
    for mine, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(mine.cpu(), theirs, rtol=1e-5, atol=1e-6)
    powers = [
        n
        for target in (aten.pow.Scalar, aten.pow.Tensor_Tensor)
        for n in graphs[0].find_nodes(op="call_function", target=target)
    ]
    assert not [node for node in powers if node.meta["val"].ndim == 0]
