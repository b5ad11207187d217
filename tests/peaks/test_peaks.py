"""The peak of a graph's memory explained: XLA's figure belongs to named values, and remedies are of the right size."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import tpu_dynamo
from tpu_dynamo.cli import app
from tpu_dynamo.peaks.words import peak_in_words
from tpu_dynamo_runtime import Client, XlaRuntimeError, plugin_installed

BLOCKS, BATCH, WIDTH = 4, 64, 128


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        return x + self.narrow(torch.tanh(self.wide(x)))


class Blocks(nn.Module):
    """Equal blocks, each of them checkpointed if asked."""

    def __init__(self, checkpointed=False):
        super().__init__()
        self.checkpointed = checkpointed
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))

    def forward(self, x):
        for block in self.blocks:
            x = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False) if self.checkpointed else block(x)
        return x


def compiled(model=None, batch=BATCH, target="cpu", **how):
    if "optimizer" in how:
        how["loss"] = lambda output: output.square().mean()
    return tpu_dynamo.compile_for(model or Blocks(), (torch.zeros(batch, 16, WIDTH),), target=target, **how)


def adamw(parameters):
    return torch.optim.AdamW(parameters)


def make_blocks():
    return Blocks().eval(), (torch.zeros(BATCH, 16, WIDTH),)


def sizes_of(model):
    return sum(p.nbytes for p in model.parameters())


@pytest.fixture(scope="module")
def step():
    (graph,) = compiled(optimizer=adamw)
    return graph


@pytest.fixture(scope="module")
def trained():
    return compiled(training=True)


@pytest.fixture(scope="module")
def inference():
    (graph,) = compiled(Blocks().eval())
    return graph


def test_xlas_figure_belongs_to_named_values(step, trained, inference):
    for graph in (step, *trained, inference):
        peak = graph.peak
        assert peak.figure == graph.memory.total
        assert peak.explained >= 0.95
        assert sum(value.nbytes for value in peak.values) == pytest.approx(peak.figure, rel=0.01)
        assert sum(peak.by_line().values()) == sum(peak.by_owner().values())


def test_values_have_their_owners_names_and_lines(step):
    owners = step.peak.by_owner()
    assert owners["parameters"] == sizes_of(Blocks())
    assert owners["optimizer state"] == pytest.approx(2 * sizes_of(Blocks()), rel=0.01)
    assert owners["intermediate values"] >= BLOCKS * BATCH * 16 * 4 * WIDTH * 4  # what tanh makes is saved
    named = {value.name: value for value in step.peak.values}
    assert named["blocks.3.wide.weight"].shape == (4 * WIDTH, WIDTH)
    assert named["blocks.3.wide.weight.exp_avg_sq"].owner == "optimizer state"
    lines = {(place[0], place[1]) for place in step.peak.by_line() if place is not None}
    tanh = next(value for value in step.peak.values if value.operator == "aten.tanh.default")
    assert tanh.place in lines
    assert tanh.file == __file__
    with open(__file__, encoding="utf-8") as text:
        assert "tanh" in text.readlines()[tanh.line - 1]


def test_what_a_forward_saves_and_a_backward_takes_is_told_from_what_leaves(trained):
    forward, backward = trained
    saved = forward.peak.by_owner()["saved for the backward"]
    assert saved >= BLOCKS * BATCH * 16 * 4 * WIDTH * 4
    assert forward.peak.by_owner()["outputs"] == pytest.approx(BATCH * 16 * WIDTH * 4, rel=0.01)
    assert backward.peak.by_owner()["saved for the backward"] == pytest.approx(saved, rel=0.05)
    gradients = [v for v in backward.peak.values if v.name.startswith("gradient ")]
    assert sum(value.nbytes for value in gradients) == sizes_of(Blocks())


def gains(graph):
    return {remedy.what: remedy.gain for remedy in graph.remedies}


def test_half_the_batch_gains_what_it_says(inference):
    (half,) = compiled(Blocks().eval(), BATCH // 2)
    what, gain = f"a batch of {BATCH // 2} instead of {BATCH}", inference.memory.total - half.memory.total
    assert gains(inference) == {what: pytest.approx(gain, rel=0.2)}


def test_checkpointing_gains_about_what_it_says(trained):
    forward, _ = trained
    again, _ = compiled(Blocks(checkpointed=True), training=True)
    (what, gain), *_ = gains(forward).items()
    assert what == f"checkpoint {BLOCKS} equal blocks"
    assert gain == pytest.approx(forward.memory.total - again.memory.total, rel=0.35)


def test_state_in_half_precision_is_weighed(step):
    assert gains(step)["optimizer state in bfloat16"] == pytest.approx(sizes_of(Blocks()), rel=0.01)


def test_a_refused_donation_is_named():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.zeros(512, 512))

        def forward(self, x):
            self.table.copy_(x)  # not read, so that its memory is not an input of the program
            return x.sum()

    (graph,) = tpu_dynamo.compile_for(Counting(), (torch.zeros(512, 512),), target="cpu")
    (value,) = [value for value in graph.peak.values if value.owner == "new values beside the old"]
    assert value.name == "new value of table"
    assert "let 1 new value take the memory of the old (table)" in gains(graph)


def test_in_words(step):
    words = peak_in_words(step.peak, step.remedies, available=step.memory.total - 1).splitlines()
    assert words[0].startswith("  it holds ")
    assert any("test_peaks.py:" in line for line in words)
    assert any(line.startswith("  try: ") and line.endswith("; it fits then") for line in words)
    assert all(line.startswith("  ") for line in words)
    assert step.peak.as_dict()["owners"] == step.peak.by_owner()
    assert "<table>" in step.peak._repr_html_()


@pytest.mark.skipif(not plugin_installed("tpu"), reason="libtpu is not installed")
def test_a_topologys_peak_comes_from_a_second_compile_and_a_refusal_says_what_is_too_large():
    (small,) = compiled(Blocks().eval(), 8, "v5e:2x2")
    assert small.executable
    assert small.peak.explained >= 0.95
    with torch.device("meta"):
        large = nn.Sequential(nn.Linear(2**17, 2**15), nn.Linear(2**15, 8))
    (graph,) = tpu_dynamo.compile_for(large, (torch.zeros(8, 2**17, device="meta"),), target="v5e:2x2")
    assert graph.memory.fits is False
    assert graph.peak.by_owner()["parameters"] >= 2**17 * 2**15 * 4
    with pytest.raises(tpu_dynamo.DoesNotFit, match=r"it holds parameters 16\.0 GiB") as caught:
        _ = graph.executable
    assert "0.weight f32[32768, 131072]" in str(caught.value)
    assert "it fits then" in str(caught.value)


def test_a_program_that_is_too_large_when_it_runs_says_so_with_what_it_holds(monkeypatch):
    def refuse(self, stablehlo, flags=(), span=()):
        raise XlaRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.00G of 15.75G hbm.")

    monkeypatch.setattr(Client, "compile", refuse)
    model = Blocks().eval()
    run = torch.compile(model, backend="tpu", options={"cache": False})
    with torch.no_grad(), pytest.raises(Exception, match=r"DoesNotFit: .*it needs 20\.00 GiB") as caught:
        run(torch.zeros(BATCH, 16, WIDTH))
    assert "it holds intermediate values" in str(caught.value)
    assert "aten.tanh.default f32" in str(caught.value)


def test_cost_tells_the_peak_before_a_run():
    factory = ["cost", "tests.peaks.test_peaks:make_blocks", "--target", "cpu", "--no-progress"]
    shown = CliRunner().invoke(app, factory)
    assert shown.exit_code == 0, shown.output
    assert "at the peak of 0000-inference\n  it holds " in shown.stdout
    assert "  try: a batch of 32 instead of 64: about " in shown.stdout
    (graph,) = json.loads(CliRunner().invoke(app, [*factory, "--json"]).stdout)
    assert graph["peak"]["figure"] == graph["memory"]["total"]
    assert graph["peak"]["explained"] >= 0.95
    assert graph["remedies"][0]["bytes"] > 0
