"""Cross entropy: eager's values and gradients, with no sum over a gradient of one class and no table of logarithms."""

from __future__ import annotations

import pytest
import torch

from tpu_dynamo_lowering.cross_entropy import pick_classes
from tpu_dynamo_lowering.pipeline import fake_mode

from .graphs import traced

aten = torch.ops.aten


def step(scores, target, reduction="mean", ignored=-100, of_log=False):
    shares = aten._log_softmax(scores, 1, False)
    loss, count = aten.nll_loss_forward(shares, target, None, {"none": 0, "mean": 1, "sum": 2}[reduction], ignored)
    grad = torch.ones_like(loss)
    number = {"none": 0, "mean": 1, "sum": 2}[reduction]
    saved = shares.detach()
    gradient = aten.nll_loss_backward(grad, shares, target, None, number, ignored, count)
    results = [loss, aten._log_softmax_backward_data(gradient, saved, 1, scores.dtype)]
    return [*results, shares] if of_log else results


CASES = {
    "mean": {},
    "sum": {"reduction": "sum"},
    "rows": {"reduction": "none"},
    "ignored": {"ignored": 2},
    "ignored by the default": {"target": [1, -100, 6, -100]},
    "all ignored": {"ignored": 3, "target": [3, 3, 3, 3], "reduction": "sum"},
    "the first class ignored": {"ignored": 0, "target": [0, 1, 0, 2]},
    "the shares too": {"of_log": True},
}


@pytest.mark.parametrize("mean", [0, 1000], ids=["centred", "far off"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients_are_those_of_eager(name, dtype, mean):
    given = dict(CASES[name])
    scores = (torch.randn(4, 7) + mean).to(dtype)
    target = torch.tensor(given.pop("target", [1, 2, 6, 2]))

    def function(scores, target):
        return step(scores, target, **given)

    graph = traced(function, scores, target)
    pick_classes(graph.graph, fake_mode())
    graph.recompile()
    exact = function(scores.double(), target)
    for found, eager, expected in zip(graph(scores, target), function(scores, target), exact, strict=True):
        assert (found.dtype, found.shape) == (eager.dtype, eager.shape)
        allowed = 1.1 * (eager - expected).abs().max() + 2 * torch.finfo(torch.float32).eps
        assert (found - expected).abs().max() <= allowed


def test_nothing_is_gathered_and_no_gradient_is_summed():
    graph = traced(step, torch.randn(4, 7), torch.tensor([1, 2, 6, 2]))
    pick_classes(graph.graph, fake_mode())
    found = [node.target for node in graph.graph.nodes]
    assert aten._log_softmax.default not in found
    assert aten._log_softmax_backward_data.default not in found
    assert aten.gather.default not in found
    assert found.count(aten.sum.dim_IntList) == 2
