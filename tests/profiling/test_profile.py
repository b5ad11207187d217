"""Profiles of runs: steps, graphs, lines and modules, and that they add up."""

from __future__ import annotations

import builtins
import json

import pytest
import torch

import tpu_dynamo
from tpu_dynamo.profiling.files import Unreadable, read_profile
from tpu_dynamo.profiling.flame import OUTSIDE, flame
from tpu_dynamo_runtime import Watching

from .runs import Block, assert_adds_up, blocks, line_of, train
from .runs import __file__ as RUNS


@pytest.fixture(scope="module", params=["cpu", "tpu"])
def trained(request):
    return request.param, train(request.param).profile


def at(profile, text, file=RUNS):
    number = line_of(text, file)
    return next(line for line in profile.lines if line.file == file and line.line == number)


def test_everything_adds_up(trained):
    assert_adds_up(trained[1])


def test_a_step_begins_with_the_forward_graph_and_has_all_parts(trained):
    device, profile = trained
    assert [step.number for step in profile.steps] == [0, 1, 2, 3]
    for step in profile.steps:
        assert all(step.parts[part] > 0 for part in ("guards", "dispatch", "execution", "host"))
        assert step.parts["compile"] == 0
        # The CPU client's calls return when their programs have ended, so that the host waits while the device works.
        assert step.device == pytest.approx(step.parts["execution"], rel=1e-6)
    graphs = {graph.name.split()[0]: graph for graph in profile.graphs}
    assert graphs["forward"].calls == graphs["backward"].calls == 4
    assert graphs["forward"].split == "profiler"
    assert graphs["forward"].parts["guards"] > 0
    assert ("eager" in graphs) == (device == "tpu")


def test_time_is_of_the_lines_that_ask_for_it(trained):
    device, profile = trained
    layer = at(profile, "return x + self.down(hidden)")
    assert layer.text == "return x + self.down(hidden).softmax(-1)"
    assert layer.parts["execution"] > 0
    assert any("softmax" in operator for operator in layer.operators)
    if device == "tpu":
        assert at(profile, "optimizer.step()").parts["execution"] > 0


def test_modules_contain_each_other_and_operators(trained):
    whole = flame(trained[1].operations)

    def total(node):
        return all(total(below) for below in node[2]) and (
            not node[2] or node[1] == pytest.approx(sum(below[1] for below in node[2]))
        )

    assert total(whole)
    modules = {node[0]: {below[0] for below in node[2]} for node in whole[2]}
    assert modules["self"] == {"0", "1"}
    assert (OUTSIDE in modules) == (trained[0] == "tpu")


def test_what_happens_in_between_is_named():
    model = blocks()
    compiled = torch.compile(model, backend="tpu")
    with torch.no_grad(), tpu_dynamo.profile() as run:
        compiled(torch.randn(8, 64))
        for _ in range(3):
            sum(j * j for j in range(1_000_000))  # the host's own work
            compiled(torch.randn(8, 64))
            run.step()
    profile = run.profile
    assert_adds_up(profile)
    assert profile.parts["compile"] > 0
    assert len(profile.steps) == 3
    own = at(profile, "# the host's own " + "work", __file__)
    assert own is max(profile.lines, key=lambda line: line.parts.get("host", 0.0))


def test_a_step_of_train_step_is_one_graph():
    model = blocks().to("tpu")
    step = tpu_dynamo.train_step(model, torch.optim.SGD(model.parameters(), lr=0.1), lambda y: y.square().sum())
    x = torch.randn(16, 64, device="tpu")
    step(x)
    with tpu_dynamo.profile() as run:
        for _ in range(3):
            step(x)
    profile = run.profile
    assert_adds_up(profile)
    assert len(profile.steps) == 3
    assert [graph.calls for graph in profile.graphs if graph.name.startswith("step graph")] == [3]
    assert at(profile, "hidden = torch.relu").parts["execution"] > 0


def test_a_graph_that_breaks_has_the_users_code_outside_of_dispatch():
    class Broken(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = Block(), Block()

        def forward(self, x):
            x = self.first(x)
            torch._dynamo.graph_break()
            x = self.slow(x)
            return self.second(x)

        @torch.compiler.disable
        def slow(self, x):
            sum(j * j for j in range(1_000_000))  # between graphs
            return x

    compiled = torch.compile(Broken().to("tpu"), backend="tpu")
    x = torch.randn(8, 64, device="tpu")
    with torch.no_grad():
        compiled(x), compiled(x)
        with tpu_dynamo.profile() as run:
            for _ in range(3):
                compiled(x)
    profile = run.profile
    assert_adds_up(profile)
    assert len(profile.steps) == 3
    assert len([graph for graph in profile.graphs if graph.name.startswith("inference")]) == 2
    own = at(profile, "# between " + "graphs", __file__)
    assert own.parts["host"] == pytest.approx(own.seconds, rel=0.05)
    assert own is max(profile.lines, key=lambda line: line.parts.get("host", 0.0))


def test_copies_count_by_direction_and_line():
    x = torch.randn(256, 256)
    with tpu_dynamo.profile() as run:
        y = x.to("tpu")
        z = y.cpu()  # back
    assert torch.equal(z, x)
    profile = run.profile
    assert {name: nbytes for name, (nbytes, _) in profile.transfers.items()} == {
        "to the device": x.nbytes,
        "to the host": x.nbytes,
    }
    assert at(profile, "z = y.cpu()  # " + "back", __file__).parts["transfer"] > 0


def test_without_pjrts_profiler_the_cost_splits_executions(monkeypatch):
    monkeypatch.setattr("tpu_dynamo.profiling.recorder.start_profiler", lambda: False)
    profile = train("cpu", 2).profile
    assert_adds_up(profile)
    assert {graph.split for graph in profile.graphs} == {"cost"}
    assert any("estimated cost" in note for note in profile.notes)
    assert at(profile, "hidden = torch.relu").parts["execution"] > 0
    assert profile.operations == ()


def test_pytorchs_profiler_keeps_its_session_and_names_graphs():
    compiled = torch.compile(blocks(), backend="tpu")
    x = torch.randn(8, 64)
    theirs = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
    with torch.no_grad():
        compiled(x)
        with theirs, tpu_dynamo.profile() as run:
            compiled(x)
    assert any("PyTorch's profiler" in note for note in run.profile.notes)
    run.add_to(theirs)
    ours = next(each for each in theirs.key_averages() if each.key.startswith("tpu_dynamo: inference graph of Seq"))
    assert ours.device_time_total == pytest.approx(run.profile.device_seconds * 1e6, rel=0.02)
    assert "TPU" in theirs.key_averages().table(sort_by="device_time_total")
    with pytest.raises(ValueError, match="0 ranges of our calls"):
        train("cpu", 1).add_to(theirs_of_nothing())
    assert_adds_up(run.profile)


def theirs_of_nothing():
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as theirs:
        torch.ones(1)
    return theirs


def test_one_profile_at_a_time_and_none_afterwards():
    with tpu_dynamo.profile() as run:
        with pytest.raises(tpu_dynamo.AlreadyProfiling, match="one at a time"), tpu_dynamo.profile():
            pass
        with pytest.raises(RuntimeError, match="block is left"):
            str(run)
        assert "block is left" in run._repr_html_()
    assert Watching.now is None
    with pytest.raises(ZeroDivisionError), tpu_dynamo.profile() as failed:
        raise ZeroDivisionError
    assert Watching.now is None
    assert failed.profile.seconds > 0
    assert str(failed)


def test_a_notebook_prints_the_text_too(monkeypatch):
    run = train("cpu", 1)
    plain = str(run)
    monkeypatch.setattr(builtins, "get_ipython", type("ZMQInteractiveShell", (), {}), raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as Jupyter sets it
    assert str(run) == plain
    assert "\x1b" not in plain


def test_a_profile_is_written_in_every_form_and_read_back(tmp_path):
    run = train("cpu", 2)
    for end in (".html", ".txt", ".trace.json", ".json", ".xplane.pb"):
        assert run.save(tmp_path / f"p{end}").stat().st_size > 100
    assert json.dumps(read_profile(tmp_path / "p.json").as_dict()) == json.dumps(run.profile.as_dict())
    with pytest.raises(ValueError, match=r"\.xplane\.pb"):
        run.save(tmp_path / "p.pdf")
    trace = json.loads((tmp_path / "p.trace.json").read_text())["traceEvents"]
    assert {each["ph"] for each in trace} == {"M", "X"}
    assert [each["name"] for each in trace if each.get("cat") == "step"] == ["step 0", "step 1"]
    assert "<iframe" in run._repr_html_()
    for damaged in ("{}", "[]", "x"):
        (tmp_path / "bad.json").write_text(damaged)
        with pytest.raises(Unreadable):
            read_profile(tmp_path / "bad.json")
