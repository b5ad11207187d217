"""`tpu-dynamo cost` on a narrow terminal cuts the source, and no figure."""

from __future__ import annotations

from types import SimpleNamespace

from tpu_dynamo.cli.cost import _show
from tpu_dynamo_runtime import Cost, LineCost, ProgramMemory


def test_figures_are_whole_where_the_source_is_long(capsys, monkeypatch, tmp_path):
    source = tmp_path / "model.py"
    source.write_text("x = " + " + ".join(f"layer_{n}(x)" for n in range(30)))
    monkeypatch.setenv("COLUMNS", "60")
    lines = (LineCost(str(source), 1, 1_234_567, 2**20),)
    memory = ProgramMemory(arguments=1, outputs=1, aliased=0, temporaries=0, code=0, total=2, available=100)
    graph = SimpleNamespace(
        name="0000-inference", cost=Cost(1_234_567, 8, 2**20, {}, lines), memory=memory, communication=None, peak=None
    )
    _show([graph], [graph], 5)
    shown = capsys.readouterr().out
    assert all(figure in shown for figure in ("1,234,567", "100.0%", "1.0 MiB", "model.py:1"))
    assert "x = layer_0" in shown
    assert "…" in shown
