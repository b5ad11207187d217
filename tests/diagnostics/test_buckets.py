"""Buckets in the report: which sizes came, how much was padding, what would have been better, and what is not padded."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tpu_dynamo
from tpu_dynamo.diagnostics.better_buckets import best_buckets, padding_share
from tpu_dynamo.diagnostics.redaction import redact
from tpu_dynamo.diagnostics.views.html import as_html
from tpu_dynamo.diagnostics.views.json_file import as_json, read_json
from tpu_dynamo.diagnostics.views.terminal import as_text


@given(st.dictionaries(st.integers(1, 40), st.integers(1, 9), min_size=1, max_size=7), st.integers(1, 4))
def test_the_best_buckets_are_those_of_a_search_of_all(calls, count):
    found = best_buckets(calls, count)
    assert len(found) <= count
    choices = itertools.chain.from_iterable(itertools.combinations(sorted(calls), n + 1) for n in range(count))
    least = min(padding_share(calls, choice) for choice in choices if choice[-1] == max(calls))
    assert padding_share(calls, found) == pytest.approx(least)


def test_many_sizes_are_taken_in_groups():
    calls = dict.fromkeys(range(1, 1001), 1)
    found = best_buckets(calls, 4)
    assert found[-1] == 1000
    assert padding_share(calls, found) < 0.21  # equal parts: 250, 500, 750 and 1000 pad a fifth


@pytest.fixture(scope="module")
def report():
    def scaled(tokens):
        return tokens.softmax(0) * 2

    def spectrum(tokens):
        return torch.fft.rfft(tokens, dim=0).abs()

    torch._dynamo.reset()
    options: Any = {"buckets": {"tokens[0]": "pow2"}}
    compiled = torch.compile(scaled, backend="tpu", dynamic=True, options=options)
    compiled(torch.randn(33, 3))
    with tpu_dynamo.diagnose() as report:
        for size, calls in ((33, 5), (34, 1), (17, 3), (64, 1)):
            for _ in range(calls):
                compiled(torch.randn(size, 3))
        for size in (5, 6):
            torch.compile(spectrum, backend="tpu", dynamic=True, options=options)(torch.randn(size, 3))
    return report.report


def test_sizes_calls_and_padding_are_those_of_the_run(report):
    (use,) = report.buckets
    assert (use.dimension, use.buckets) == ("tokens[0]", (32, 64))
    assert use.function.endswith("scaled")
    assert [(each.size, each.calls, each.bucket) for each in use.sizes] == [
        (17, 3, 32), (33, 5, 64), (34, 1, 64), (64, 1, 64)
    ]  # fmt: skip


def test_the_views_show_a_line_to_write_and_what_is_not_padded(report, tmp_path):
    text = as_text(report)
    assert "would be padding with options={" in " ".join(text.split())
    assert '"tokens[0]": [34, 64]' in text
    assert "17 to 17 in 32" in text
    assert "_fft_r2c" in text
    assert "test_buckets.py" in text.partition("not padded")[2]
    page = as_html(report)
    assert "33 to 64 in 64" in page
    assert "tokens[0]" in page
    (tmp_path / "report.json").write_text(as_json(report))
    assert read_json(tmp_path / "report.json").buckets == report.buckets
    redacted = as_text(redact(report))
    assert "tokens" not in redacted.partition("buckets\n")[2].partition("not padded")[0]
    assert json.loads(as_json(report))["not_padded"][0]["why"].startswith("it cannot be padded")
