"""Traces of other machines: several ranks, files that are cut off, records of a future torch."""

from __future__ import annotations

import json

import pytest
import torch

from tests.diagnostics.breaking_models import Item
from tests.diagnostics.runs import compiled_call, watch
from tpu_dynamo.diagnostics.report_sources import Unreadable, read_report, run_and_read
from tpu_dynamo.diagnostics.summary import totals


@pytest.fixture(scope="module")
def trace():
    with torch.no_grad():
        return watch(compiled_call(Item(), torch.rand(2, 5, 8))).trace


def test_ranks_share_their_breaks(trace, tmp_path):
    for rank in (0, 3):
        (tmp_path / f"dedicated_log_torch_trace_rank_{rank}_abc.log").write_text(trace)
    report = read_report(tmp_path)
    (found,) = report.breaks
    assert (found.ranks, found.met) == ((0, 3), 2)
    assert (report.run.ranks, report.run.processes) == ((0, 3), 2)
    assert totals(report).graphs == 4
    assert len({c.id for c in report.compiles}) == len(report.compiles)


def test_ranks_share_the_causes_of_their_recompiles(tmp_path):
    def work():
        compiled = torch.compile(lambda x: x + 1, backend="eager")
        compiled(torch.ones(3))
        compiled(torch.ones(4))

    text = watch(work).trace
    for rank in (0, 1):
        (tmp_path / f"dedicated_log_torch_trace_rank_{rank}_abc.log").write_text(text)
    (found,) = read_report(tmp_path).recompiles
    assert (found.ranks, found.values, found.so_far) == ((0, 1), ("3", "4"), 1)


def test_a_trace_that_is_cut_off_is_read_as_far_as_it_goes(trace, tmp_path):
    file = tmp_path / "trace.log"
    whole = trace.index('{"compilation_metrics"')
    file.write_text(trace[: whole + 200])
    report = read_report(file)
    assert [b.code for b in report.breaks] == ["GB0124"]
    assert [c.outcome for c in report.compiles] == ["unfinished"]
    assert report.run.damaged == 1


def test_every_cut_is_read_without_an_error(trace, tmp_path):
    file = tmp_path / "trace.log"
    file.write_text(trace)
    whole = read_report(file)
    ids, codes, read = [c.id for c in whole.compiles], [b.code for b in whole.breaks], []
    first = trace.index("\n") + 1  # without one record, a file is no trace
    for end in range(first, len(trace), len(trace) // 40):
        file.write_text(trace[:end])
        report = read_report(file)
        read.append((len(report.compiles), len(report.breaks)))
        assert [c.id for c in report.compiles] == ids[: read[-1][0]]
        assert [b.code for b in report.breaks] == codes[: read[-1][1]]
        assert report.run.damaged <= 1
    assert read == sorted(read)
    assert read[0] == (0, 0)
    assert read[-1] == (len(ids), len(codes))


def test_records_of_a_future_torch_are_counted_and_not_fatal(trace, tmp_path):
    line = 'V1123 14:07:30.078000 10295 torch/x.py:1] {"hologram": {"a": 1}, "frame_id": 0}\n\tpayload\n'
    strange = 'V1123 14:07:30.078000 10295 torch/x.py:1] {"compilation_metrics": 7, "frame_id": "?"}\n'
    (tmp_path / "trace.log").write_text(line + strange + trace + line + "no record at all\n")
    report = read_report(tmp_path)
    assert report.run.unknown_records == {"hologram": 2}
    assert report.run.damaged == 1
    assert [b.code for b in report.breaks] == ["GB0124"]


def test_bytes_that_are_no_text_are_no_error(trace, tmp_path):
    (tmp_path / "trace.log").write_bytes(b"\xff\xfe\x00garbage\n" + trace.encode() + b"\xc3\n")
    assert [b.code for b in read_report(tmp_path).breaks] == ["GB0124"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("trace.log", "nothing\n", "holds no records of TORCH_TRACE", id="no-trace"),
        pytest.param("run.json", '{"run": 1}', "is no report: ", id="no-report"),
        pytest.param("run.json", '{"run": {"source": ""}, "schema_version": 99}', "has schema version 99", id="newer"),
        pytest.param("run.json", "{", "is no report: ", id="no-json"),
    ],
)
def test_what_is_neither_says_so(name, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(Unreadable, match=message):
        read_report(tmp_path / name)


def test_a_path_that_is_not_there_says_so(tmp_path):
    with pytest.raises(Unreadable, match="there is no"):
        read_report(tmp_path / "absent")


def test_a_command_is_run_and_read(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import sys, torch\n"
        "def forward(x):\n"
        "    return x * x.sum().item()\n"
        "torch.compile(forward, backend='eager')(torch.ones(3))\n"
        "sys.exit(int(sys.argv[1]))\n"
    )
    import sys

    report, status = run_and_read([sys.executable, "-W", "ignore", str(script), "3"])
    assert status == 3
    assert [(b.code, b.place.line, b.place.column) for b in report.breaks] == [("GB0124", 3, 16)]
    assert report.run.versions["torch"] == torch.__version__


def test_a_command_that_is_not_there_says_so():
    with pytest.raises(Unreadable, match="no-such-command"):
        run_and_read(["no-such-command"])


def test_json_keeps_everything(trace, tmp_path):
    from tpu_dynamo.diagnostics.report_files import write

    (tmp_path / "trace.log").write_text(trace)
    report = read_report(tmp_path / "trace.log")
    write(report, tmp_path / "run.json", ".json")
    assert read_report(tmp_path / "run.json") == report
    assert json.loads((tmp_path / "run.json").read_text())["breaks"][0]["code"] == "GB0124"
