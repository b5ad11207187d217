"""The example: six breaks and three recompiles as it was written, none after following the report."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.diagnostics.runs import agrees_with_dynamo, place_of, watch

FILE = Path(__file__).parents[2] / "examples" / "graph_breaks.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("graph_breaks_example", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_six_breaks_and_three_recompiles_are_found_where_they_are(example):
    watched = watch(lambda: example.run("eager"))
    expected = {
        "time.perf_counter()": "GB0007",
        'log.debug("hidden states %s", hidden.shape)': "GB0291",
        "hidden.abs().max().item()": "GB0124",
        "hidden.mean() < 0": "GB0170",
        "hidden[tokens != 0]": "GB0036",
        "np.interp(hidden.mean((1, 2)).numpy(), [-1.0, 1.0], [0.5, 2.0])": "GB0294",
    }
    found = {(b.place.file, b.place.line, b.place.column, b.place.end_column): b.code for b in watched.report.breaks}
    assert found == {place_of(example.Ranker.forward, text): code for text, code in expected.items()}
    assert all(b.met == 1 and b.advice for b in watched.report.breaks)
    recompiles = {(r.code, r.function, r.source, r.dimension) for r in watched.report.recompiles}
    assert recompiles == {
        ("TPU201", "loss", "scores", 0),
        ("TPU202", "loss", "temperature", None),
        ("TPU205", "loss", "grad_mode", None),
    }
    assert Counter(c.recompile for c in watched.report.compiles)[True] == 3
    assert not watched.report.unrecorded
    agrees_with_dynamo(watched)


def test_none_is_left_after_following_the_report(example):
    watched = watch(lambda: example.run_fixed("eager"))
    assert not watched.report.breaks
    assert not watched.report.recompiles
    assert sum(c.graphs for c in watched.report.compiles) == 3
    agrees_with_dynamo(watched)


def test_the_fixed_model_gives_the_same_scores(example):
    torch.manual_seed(0)
    model, fixed = example.Ranker().eval(), example.FixedRanker().eval()
    fixed.load_state_dict(model.state_dict())
    tokens = torch.randint(0, example.VOCABULARY, (4, example.LENGTH))
    with torch.no_grad():
        torch.testing.assert_close(fixed(tokens), model(tokens))
