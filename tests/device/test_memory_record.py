"""The device's memory over time: owners and lines at the peak, bounded, off by default."""

from __future__ import annotations

import gc
import inspect
import json

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import tpu_dynamo
from tpu_dynamo.cli import app
from tpu_dynamo.device.cells import Cell
from tpu_dynamo.memory_timeline import recorder

PLAIN = Cell.__init__


def line_of(text):
    source, first = inspect.getsourcelines(inspect.getmodule(line_of))
    (found,) = [n for n, line in enumerate(source, first or 1) if line.strip() == text]
    return found


def test_owners_and_lines_at_the_peak(tmp_path):
    gc.collect()
    elsewhere = sum(
        each.nbytes for each in gc.get_objects() if type(each) is nn.Parameter and each.device.type == "tpu"
    )
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh()).to("tpu")
    optimizer = torch.optim.Adam(model.parameters())
    with tpu_dynamo.record_memory() as recording:
        kept = torch.ones(512, 64, device="tpu")
        for _ in range(2):
            model(kept).square().mean().backward()
            optimizer.step()
            recording.mark("step")
            optimizer.zero_grad()
        large = torch.zeros(4096, 64, device="tpu")
        del large
    record = recording.record
    assert Cell.__init__ is PLAIN
    place = (__file__, line_of('kept = torch.ones(512, 64, device="tpu")'))
    assert record.moments[-1].lines[place] == kept.nbytes
    assert record.peak.total >= 4096 * 64 * 4
    assert record.peak.lines[__file__, line_of('large = torch.zeros(4096, 64, device="tpu")')] == 4096 * 64 * 4
    assert record.peak.owners["parameters"] >= 64 * 65 * 4
    steps = [moment for moment in record.moments if moment.mark == "step"]
    assert len(steps) == 2
    assert steps[1].owners["optimizer_state"] >= 2 * 64 * 65 * 4
    assert steps[1].owners["gradients"] >= 64 * 65 * 4
    assert record.moments[-1].owners.get("gradients", 0) == 0
    # Parameters that the optimizer wrote anew stay parameters.
    assert record.moments[-2].owners["parameters"] == elsewhere + 64 * 65 * 4
    assert "test_memory_record.py:" in str(record)
    assert "<table>" in record._repr_html_()
    written = json.loads(record.to_json(tmp_path / "memory.json").read_text())
    assert written["peak"]["total"] == record.peak.total
    assert "kept = torch.ones" in record.to_html(tmp_path / "memory.html").read_text()


def test_moments_are_bounded_and_the_peak_stays():
    with tpu_dynamo.record_memory(most=50) as recording:
        torch.zeros(2**16, device="tpu")
        for _ in range(300):
            torch.zeros(8, device="tpu")
    assert len(recording.record.moments) <= 51
    assert recording.record.peak.total >= 2**18


def test_one_record_at_a_time_and_an_error_ends_it():
    with pytest.raises(ZeroDivisionError), tpu_dynamo.record_memory() as recording:
        with pytest.raises(RuntimeError, match="recorded already"), tpu_dynamo.record_memory():
            pass
        _ = 1 / 0
    assert recording.record is not None
    assert Cell.__init__ is PLAIN is recorder._plain_init
    gc.collect()


SCRIPT = """
import sys
import torch

held = torch.ones(int(sys.argv[1]), device="tpu")
assert __name__ == "__main__"
if len(sys.argv) > 2:
    raise SystemExit(int(sys.argv[2]))
held.no_such_name
"""


def test_a_script_is_run_and_its_record_shown_whatever_its_end(tmp_path):
    script, page = tmp_path / "train.py", tmp_path / "memory.html"
    script.write_text(SCRIPT)
    done = CliRunner().invoke(app, ["memory", str(script), "--html", str(page), "--", "65536"])
    assert done.exit_code == 1
    assert "AttributeError" in done.stderr
    assert "peak 256." in done.stdout  # and what other tests left
    assert f"{script}:5" in done.stdout
    assert "<svg" in page.read_text()
    ended = CliRunner().invoke(app, ["memory", str(script), "--json", "--", "65536", "7"])
    assert ended.exit_code == 7
    assert json.loads(ended.stdout)["peak"]["total"] >= 2**18
    assert CliRunner().invoke(app, ["memory", str(tmp_path / "none.py")]).exit_code == 2
