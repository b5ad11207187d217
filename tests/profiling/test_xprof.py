"""PJRT's trace, as a profile writes it, is one that xprof reads, with the graphs by name (pip install xprof)."""

from __future__ import annotations

import pytest

from .runs import train


def test_xprof_reads_the_trace(tmp_path):
    converter = pytest.importorskip("xprof.convert.raw_to_tool_data")
    file = train("cpu", 2).save(tmp_path / "run.xplane.pb")
    data, _ = converter.xspace_to_tool_data([str(file)], "trace_viewer", {})
    text = data if isinstance(data, str) else data.decode()
    assert text.count("tpu_dynamo: forward graph of") == 2
