"""tpu_dynamo.check: wrong operators are found at their lines, and right models raise no alarm."""

from __future__ import annotations

import inspect
import json
import runpy
import warnings

import pytest
import torch
from torch.nn import functional as F
from typer.testing import CliRunner

import tpu_dynamo
from tests.numerics import planted
from tpu_dynamo.cli import app
from tpu_dynamo.cli.exit_codes import ExitCode
from tpu_dynamo.numerics.comparing import compare

SOURCE, FIRST = inspect.getsourcelines(planted.Deep.forward)
PLANTED_LINE = FIRST + next(i for i, line in enumerate(SOURCE) if "the planted line" in line)


def at_the_planted_line(found: tpu_dynamo.Check, operator: str) -> None:
    (graph,) = found.faults
    assert graph.fault.kind == "operator" and graph.fault.operators == (f"planted_faults.{operator}.default",)
    assert (graph.fault.line.file, graph.fault.line.line) == (planted.__file__, PLANTED_LINE)
    assert graph.fault.comparison.error == pytest.approx(0.01 * graph.fault.comparison.magnitude, rel=0.05)


@pytest.mark.parametrize(
    "layers", [pytest.param(2, id="few"), pytest.param(251, id="thousand", marks=pytest.mark.slow)]
)
def test_a_wrong_lowering_is_found_at_its_line_in_forward_and_backward(layers):
    found = tpu_dynamo.check(planted.Deep(layers), torch.randn(4, 8), training=True)
    assert not found and [graph.role for graph in found.graphs] == ["forward", "backward"]
    if layers > 100:
        assert found.graphs[0].operators > 1000
    for graph, operator in zip(found.graphs, ["off", "off_gradient"], strict=True):
        at_the_planted_line(tpu_dynamo.Check("eager", (graph,)), operator)
    assert "the planted line" in str(found) and "gradient of " in found.graphs[1].results[0].name


class Block(torch.nn.Module):
    """A small model of the usual operators."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(16, 8)
        self.norm, self.out = torch.nn.LayerNorm(8), torch.nn.Linear(8, 8)
        self.drop = torch.nn.Dropout(0.3)

    def forward(self, tokens):
        x = self.table(tokens)
        mask = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=x.device).tril()
        scores = (x @ x.mT).masked_fill(~mask, float("-inf"))
        x = self.norm(x + self.drop(F.gelu(self.out(scores.softmax(-1) @ x))))
        return F.cross_entropy(x.float().flatten(0, 1), tokens.flatten() % 8), x.argmax(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("against", ["eager", "float64"])
def test_a_right_model_that_draws_raises_no_alarm(dtype, against):
    model = Block().to(dtype)
    found = tpu_dynamo.check(
        model, torch.randint(0, 16, (2, 5)), training=True, against=against, loss=lambda out: out[0]
    )
    assert found, str(found)
    assert [graph.unchecked for graph in found.graphs] == [None, None]
    errors = [result.comparison.own_error for graph in found.graphs for result in graph.results]
    assert any(errors) or against == "eager"


def test_the_model_and_the_generators_are_left_as_they_are():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5))
    gradient = model[0].weight.grad = torch.ones(4, 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(6, 4)
    state = torch.get_rng_state()
    assert tpu_dynamo.check(model, x, training=True)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert model[0].weight.grad is gradient and torch.equal(gradient, torch.ones(4, 4)) and model[0].bias.grad is None


def test_a_whole_step_is_compared_by_the_names_of_parameters_and_state():
    model = planted.Deep(1).to("tpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step = tpu_dynamo.train_step(model, optimizer, F.mse_loss)
    batch = torch.randn(4, 8, device="tpu"), torch.randn(4, 8, device="tpu")
    found = tpu_dynamo.check(step, *batch)
    names = {result.name for result in found.graphs[0].results if not result.comparison.within}
    assert "state layers.0.weight.momentum_buffer" in names
    at_the_planted_line(found, "off")


def test_a_gradient_in_a_step_is_a_result_of_its_own():
    # Beside parameters of 1,000 times its size, an update of a hundredth of it is within the bound of theirs.
    model = planted.OffInBackward().to("tpu")
    step = tpu_dynamo.train_step(model, torch.optim.SGD(model.parameters(), lr=1e-6), lambda y: y.square().mean())
    x = torch.randn(4, 8, device="tpu")
    step(x)
    found = tpu_dynamo.check(step, x)
    wrong = [result.name for result in found.graphs[0].results if not result.comparison.within]
    assert wrong == ["gradient of parameter layer.weight", "gradient of parameter layer.bias"]
    fault = found.graphs[0].fault
    assert fault.operators == ("planted_faults.off_gradient.default",)
    assert "off in the backward" in fault.line.text
    exact = torch.nn.Linear(8, 8).to("tpu")
    right = tpu_dynamo.train_step(
        exact, torch.optim.AdamW(exact.parameters()), lambda y: y.square().mean(), max_grad_norm=0.1
    )
    right(x)
    found = tpu_dynamo.check(right, x)
    assert found and "gradient of parameter weight" in {result.name for result in found.graphs[0].results}


def test_small_differences_that_a_decision_amplifies_are_no_fault():
    def decides(x):
        return (planted.nudged(x) > 1.0).float() * 100

    found = tpu_dynamo.check(decides, torch.ones(4))
    assert found and found.graphs[0].amplified and not found.graphs[0].results[0].comparison.within


@pytest.mark.parametrize(
    "choose",
    [
        pytest.param(lambda x: torch.sort(x.flatten()).indices, id="sort"),
        pytest.param(lambda x: torch.topk(x, 3).indices * 2, id="topk"),
        pytest.param(lambda x: x.argmax(), id="argmax"),
        pytest.param(lambda x: x.max(0).indices, id="max"),
    ],
)
def test_equal_elements_may_be_chosen_in_any_order(choose):
    assert tpu_dynamo.check(choose, torch.randint(0, 2, (8, 8)))


def test_results_that_eager_returns_in_another_shape_than_it_promises_are_not_compared():
    bags = torch.nn.EmbeddingBag(8, 4, mode="sum").bfloat16()
    found = tpu_dynamo.check(bags, torch.randint(0, 8, (3, 2)), training=True)
    assert found, str(found)


def test_where_nan_comes_from():
    def logs(x):
        y = x * 2
        return y.log() + 1

    found = tpu_dynamo.check(logs, -torch.ones(4))
    assert found and found.graphs[0].nonfinite.where == "both"
    assert found.graphs[0].nonfinite.operator == "aten.log.default" and "y.log()" in str(found)


def test_operators_that_eager_does_not_compute_are_said_to_be_unchecked():
    planted._LIBRARY.define("nowhere(Tensor x) -> Tensor")
    torch.library.register_fake("planted_faults::nowhere", torch.empty_like, lib=planted._LIBRARY)
    nowhere = torch.ops.planted_faults.nowhere.default
    tpu_dynamo.lowers(nowhere)(lambda x: x * 2)
    found = tpu_dynamo.check(lambda x: nowhere(x) + 1, torch.ones(4))
    assert found.right and not found.complete and not found
    assert "does not run in eager" in found.graphs[0].unchecked


def test_a_repro_runs_alone(tmp_path, capsys):
    found = tpu_dynamo.check(planted.Deep(2), torch.randn(4, 8))
    path = found.write_repro(tmp_path / "fault.py")
    assert {each.name for each in tmp_path.iterdir()} == {"fault.py", "fault.safetensors"}
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code == 1 and "planted_faults.off.default" in capsys.readouterr().out
    with pytest.raises(ValueError, match="nothing to write"):
        tpu_dynamo.check(torch.sin, torch.randn(3)).write_repro(tmp_path / "none.py")


def test_every_nth_call_is_checked_counted_and_warned_of_once():
    model = planted.Deep(1)
    compiled = torch.compile(model, backend="tpu", options={"check": 2})
    x = torch.randn(4, 8)
    with warnings.catch_warnings(record=True) as warned, torch.no_grad():
        warnings.simplefilter("always")
        for _ in range(5):
            compiled(x)
    (warning,) = [each for each in warned if each.category is tpu_dynamo.WrongResults]
    assert f"{planted.__file__}:{PLANTED_LINE}" in str(warning.message)
    assert tpu_dynamo.stats().checks == {"wrong": 2}


def test_random_numbers_of_a_call_that_is_checked_are_its_own():
    compiled = torch.compile(lambda x: F.dropout(x, 0.5), backend="tpu", options={"check": 2})
    for _ in range(4):
        assert 0 < compiled(torch.ones(64)).count_nonzero() < 64
    assert tpu_dynamo.stats().checks == {"right": 2}


def test_a_check_is_plain_data_and_a_table():
    found = tpu_dynamo.check(planted.Deep(1), torch.randn(4, 8))
    data = json.loads(found.to_json())
    assert data["right"] is False and data["graphs"][0]["fault"]["line"]["line"] == PLANTED_LINE
    assert "planted_faults.off.default" in found._repr_html_()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        pytest.param(["make_right"], ExitCode.OK, id="right"),
        pytest.param(["make_wrong", "--training", "-v"], ExitCode.FINDINGS, id="wrong"),
        pytest.param(["make_right_loss", "--optimizer", "tests.numerics.planted:sgd"], ExitCode.OK, id="step"),
        pytest.param(["make_nothing"], ExitCode.INCOMPLETE, id="no graph"),
        pytest.param(["make_right", "--against", "float16"], ExitCode.USAGE, id="usage"),
    ],
)
def test_the_verb_says_what_it_found_by_its_exit_code(words, code, tmp_path):
    script = tmp_path / "fault.py"
    ended = CliRunner().invoke(app, ["check", f"tests.numerics.planted:{words[0]}", *words[1:], "--repro", str(script)])
    assert ended.exit_code == code, ended.output
    assert script.exists() == (code is ExitCode.FINDINGS)
    if script.exists():
        assert "the planted line" in ended.output


def test_bounds_come_from_the_dtype_and_from_eagers_own_error():
    x = torch.randn(100)
    assert compare(x * (1 + 1e-6), x).within and not compare(x * 1.0001, x).within
    assert compare(x.bfloat16(), (x * 1.004).bfloat16()).within
    wrong = x.clone()
    wrong[3] = float("nan")
    assert compare(wrong, x).nonfinite == 1 and compare(wrong, wrong).within
    rounded = x * 1.001  # eager's own error, against float64
    assert compare(x * 1.002, rounded, x.double()).within and not compare(x * 1.1, rounded, x.double()).within
    assert compare(torch.tensor([1, 2]), torch.tensor([1, 3])).differing == 1
