"""Checked calls in a report: counted by graph and verdict, wrong ones first with their lines."""

from __future__ import annotations

import json
import warnings

import pytest
import torch

import tpu_dynamo
from tests.numerics import planted
from tpu_dynamo.diagnostics.redaction import redact
from tpu_dynamo.diagnostics.views.html import as_html
from tpu_dynamo.diagnostics.views.json_file import as_json, read_json
from tpu_dynamo.diagnostics.views.terminal import as_text


@pytest.fixture(scope="module")
def report():
    torch._dynamo.reset()
    models = planted.Deep(1).eval(), torch.nn.Linear(8, 8)
    compiled = [torch.compile(model, backend="tpu", options={"check": 2}) for model in models]
    with torch.no_grad(), tpu_dynamo.diagnose() as diagnosis, warnings.catch_warnings():
        warnings.simplefilter("ignore", tpu_dynamo.WrongResults)
        for _ in range(5):
            [each(torch.ones(4, 8)) for each in compiled]
    return diagnosis.report


def test_calls_are_counted_by_graph_and_verdict(report):
    wrong, right = report.checks
    assert (wrong.verdict, wrong.calls, right.verdict, right.calls) == ("wrong", 2, "right", 2)
    assert wrong.operators == ("planted_faults.off.default",)
    assert wrong.place.file == planted.__file__
    assert "planted line" in wrong.place.text
    assert right.place is None


def test_all_views_show_them(report, tmp_path):
    text = " ".join(as_text(report).split())
    assert "wrong: 2 calls of inference graph of Deep.forward" in text
    assert "off by" in text and "the planted line" in text
    page = as_html(report)
    assert "Checked beside eager operators" in page and "planted_faults.off.default" in page
    (tmp_path / "report.json").write_text(as_json(report))
    assert read_json(tmp_path / "report.json").checks == report.checks
    hidden = redact(report).checks[0]
    assert (hidden.graph, hidden.why, hidden.place.text, hidden.calls) == ("graph1", "", "", 2)
    assert "Deep" not in json.dumps(json.loads(as_json(redact(report)))["checks"])
