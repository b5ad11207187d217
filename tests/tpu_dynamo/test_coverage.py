"""Coverage: what the tables hold, and what a model needs, found without computing anything."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

from tests.opinfo import page
from tpu_dynamo.ahead_of_time import coverage
from tpu_dynamo.cli import app


@torch.library.custom_op("tpu_dynamo_tests::uncovered", mutates_args=())
def uncovered(x: torch.Tensor) -> torch.Tensor:
    """An operator that nothing lowers."""
    raise AssertionError("run")


uncovered.register_fake(torch.empty_like)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, x, y=None):
        return torch.relu(self.layer(x)).cumsum(1)


def good():
    return Model(), (torch.empty(2, 4, device="meta"),)


def bad():
    return lambda x: uncovered(x) + 1, [torch.empty(2)], {}


def wrong():
    return Model()


def test_a_models_operators_are_found_on_meta_tensors():
    with torch.device("meta"):
        model = Model()
    found = coverage.cover(model, (torch.empty(2, 4, device="meta"),))
    assert found.graphs == 1
    assert not found.unsupported
    ways = dict(found.operators.keys())
    assert ways["aten.addmm.default"] == "kernel"
    assert ways["aten.relu.default"] == "torch-mlir"
    assert ways["aten.cumsum.default"] == "kernel"


def test_training_includes_the_backward_pass():
    names = {name for name, _ in coverage.cover(*good(), training=True).operators}
    assert "aten.threshold_backward.default" in names


def test_what_cannot_be_lowered_is_found_without_running_it():
    found = coverage.cover(*bad())
    (problem,) = found.unsupported
    assert "tpu_dynamo_tests.uncovered" in problem.operation
    assert set(found.operators) == {("aten.add.Tensor", "torch-mlir")}, "an operator without a lowering has no way"
    assert problem.line is not None
    assert problem.line.file == __file__


def test_the_page_of_operators_is_fresh():
    fresh = "".join(page.rows(*page.noted()))
    assert page.written() == fresh, "run: python -m tests.opinfo.page --tables"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["ops", f"{__name__}:good"], 0, "aten.addmm.default"),
        (["ops", f"{__name__}:bad"], 1, "tpu_dynamo_tests.uncovered"),
        (["ops", f"{__name__}:wrong"], 2, "must return (model, args)"),
        (["ops", "nowhere:good"], 2, "no module named 'nowhere'"),
        (["ops", f"{__name__}:absent"], 2, "has no 'absent'"),
        (["ops", "nonsense"], 2, "not of the form MODULE:FACTORY"),
        (["ops"], 0, "aten.sort.stable"),
        (["--version"], 0, "tpu-dynamo "),
    ],
    ids=["covered", "uncovered", "not-a-pair", "no-module", "no-function", "no-colon", "all", "version"],
)
def test_the_command_line_answers_and_exits(arguments, code, text):
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code, done.output
    assert text in done.output
