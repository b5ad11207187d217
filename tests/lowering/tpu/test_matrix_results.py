"""Results that a TPU's program returns as matrices: which do, and that callers get eager's tensors all the same."""

from __future__ import annotations

import copy
import math

import pytest
import torch

import tpu_dynamo
from tests.lowering.graphs import traced
from tpu_dynamo.graph import lowering
from tpu_dynamo_lowering import Computed, View
from tpu_dynamo_lowering.pipeline import lower, prepare


class Head(torch.nn.Module):
    """Words' scores, of a number of words that fits no row of registers."""

    def __init__(self, words=50):
        super().__init__()
        self.width = torch.nn.Linear(16, 16)
        self.words = torch.nn.Linear(16, words, bias=False)

    def forward(self, x):
        return self.words(self.width(x).relu())


def program_of(function, *args, **options):
    return lower(prepare(traced(function, *args)), {}, platform="tpu", **options)


def head(x, weight):
    return torch.nn.functional.linear(x, weight)


def test_a_product_that_would_be_copied_leaves_as_a_matrix():
    program = program_of(head, torch.randn(2, 3, 16), torch.randn(50, 16), handed_out=None)
    assert [spec.shape for spec in program.results] == [(6, 50)]
    assert program.outputs == (View(0, (2, 3, 50), (150, 50, 1), 0),)
    assert "stablehlo.reshape" not in program.text().partition("dot_general")[2]


@pytest.mark.parametrize(
    ("function", "shape", "words", "options"),
    [
        pytest.param(head, (2, 3, 16), 256, {"handed_out": None}, id="rows-fit-registers"),
        pytest.param(head, (1, 3, 16), 50, {"handed_out": None}, id="one-order-of-rows"),
        pytest.param(head, (2, 3, 16), 50, {}, id="for-a-program-of-ours"),
        pytest.param(lambda x, w: head(x, w).sin(), (2, 3, 16), 50, {"handed_out": None}, id="no-product"),
        pytest.param(
            lambda x, w: head(x, w).transpose(1, 2), (2, 3, 16), 50, {"handed_out": None}, id="in-another-order"
        ),
        pytest.param(lambda x, w: (y := head(x, w), y.sin()), (2, 3, 16), 50, {"handed_out": None}, id="read-again"),
        pytest.param(
            lambda x, w: (y := head(x, w), y[0]), (2, 3, 16), 50, {"handed_out": None}, id="viewed-by-another"
        ),
        pytest.param(lambda x, w: [head(x, w)] * 2, (2, 3, 16), 50, {"handed_out": 1}, id="saved-too"),
    ],
)
def test_other_results_leave_as_they_are(function, shape, words, options):
    program = program_of(function, torch.randn(shape), torch.randn(words, 16), **options)
    assert (math.prod(shape[:-1]), words) not in [spec.shape for spec in program.results]


@pytest.fixture
def lowered_as_for_a_tpu(monkeypatch):
    """Programs as for a TPU, which XLA's CPU client runs too; what was lowered."""
    found = []

    def lower_for_tpu(*args, **options):
        found.append(lower(*args, **options | {"platform": "tpu"}))
        return found[-1]

    monkeypatch.setattr(lowering, "lower", lower_for_tpu)
    return found


def has_matrix(programs):
    return any(isinstance(output, View) for program in programs for output in program.outputs)


@pytest.mark.parametrize("transfer", ["share", "copy"])
@pytest.mark.parametrize("words", [50, 256])
def test_callers_get_eagers_tensor(lowered_as_for_a_tpu, transfer, words):
    model, x = Head(words), torch.randn(2, 3, 16)
    compiled = torch.compile(model, backend="tpu", options={"transfer": transfer} if transfer == "copy" else {})
    with torch.no_grad():
        found, expected = compiled(x), model(x)
    assert has_matrix(lowered_as_for_a_tpu) == (words == 50)
    assert found.stride() == expected.stride()
    assert not found._is_view()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("device", ["cpu", "tpu"])
def test_training_and_changes_in_place_go_on_as_in_eager(lowered_as_for_a_tpu, device):
    def step(model, x):
        scores = model(x)
        scores.mul_(2)
        scores.square().sum().backward()
        return scores.detach().cpu(), scores.stride(), [p.grad.cpu() for p in model.parameters()]

    model, x = Head(), torch.randn(2, 3, 16)
    ours = copy.deepcopy(model).to(device)
    expected = step(model, x)
    found = step(torch.compile(ours, backend="tpu"), x.to(device))
    assert has_matrix(lowered_as_for_a_tpu)
    torch.testing.assert_close(found, expected)


def test_on_the_device_other_programs_read_it(lowered_as_for_a_tpu):
    model, x = Head(), torch.randn(2, 3, 16)
    with torch.no_grad():
        expected = model(x)
        scores = torch.compile(copy.deepcopy(model).to("tpu"), backend="tpu")(x.to("tpu"))
        again = torch.compile(lambda y: y.softmax(-1), backend="tpu")
        assert scores.stride() == expected.stride()
        torch.testing.assert_close(again(scores).cpu(), expected.softmax(-1))
        torch.testing.assert_close(scores.argmax(-1).cpu(), expected.argmax(-1))
        torch.testing.assert_close(scores[:, -1].cpu(), expected[:, -1])
    assert has_matrix(lowered_as_for_a_tpu)
    assert not has_matrix(lowered_as_for_a_tpu[1:])


def test_several_heads_of_one_graph():
    program = program_of(
        lambda x, w: (head(x, w), (x * 2).sum(-1), head(x + 1, w)),
        torch.randn(2, 3, 16),
        torch.randn(50, 16),
        handed_out=None,
    )
    assert [type(output) for output in program.outputs] == [View, Computed, View]


def test_gradients_and_steps_hand_nothing_out():
    assert [tpu_dynamo.graph.prepare.PreparedGraph("x", role, None, None, False, returned=2).handed_out
            for role in ("forward", "inference", "backward", "step")] == [2, 2, 0, 0]  # fmt: skip
