"""Dump folders and structured traces: every form of every graph, for people to read."""

from __future__ import annotations

import json
import logging

import torch

from tpu_dynamo.artifacts import Artifacts

FORMS = {
    "dynamo.fx.py": "class GraphModule",
    "aot.fx.py": "torch.ops.aten.tanh.default",
    "rewritten.fx.py": "torch.ops.aten.tanh.default",
    "torch.mlir": "torch.aten.tanh",
    "stablehlo.mlir": "stablehlo.tanh",
    "optimised.hlo": "HloModule",
    "versions.json": '"jaxlib"',
}


def test_a_dump_holds_every_form_of_the_graph(tmp_path):
    torch.compile(lambda x: torch.tanh(x), backend="tpu", options={"dump_dir": tmp_path})(torch.randn(3))
    (folder,) = tmp_path.iterdir()
    assert folder.name.endswith("-inference")
    assert {file.name for file in folder.iterdir()} == set(FORMS)
    for file, text in FORMS.items():
        assert text in (folder / file).read_text(), file


def test_ir_names_the_users_line(tmp_path):
    torch.compile(lambda x: torch.tanh(x), backend="tpu", options={"dump_dir": tmp_path})(torch.randn(3))
    (folder,) = tmp_path.iterdir()
    for file in ("torch.mlir", "stablehlo.mlir", "optimised.hlo"):
        assert __file__ in (folder / file).read_text(), file


def test_each_graph_has_a_folder_of_its_own(tmp_path):
    weight = torch.randn(3, requires_grad=True)
    compiled = torch.compile(lambda x, w: (x * w).sum(), backend="tpu", dynamic=True, options={"dump_dir": tmp_path})
    compiled(torch.randn(4, 3), weight).backward()
    compiled(torch.randn(5, 3), weight)
    names = sorted(folder.name.split("-", 1)[1] for folder in tmp_path.iterdir())
    assert [name.split("-")[0] for name in names] == ["backward", "forward", "forward"]
    assert any("=4" in name for name in names)
    assert any("=5" in name for name in names)


def test_forms_reach_the_structured_trace():
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record):
            records.append(record)

    trace, keep = logging.getLogger("torch.__trace"), Keep()
    trace.addHandler(keep)
    try:
        torch.compile(lambda x: torch.tanh(x), backend="tpu")(torch.randn(3))
    finally:
        trace.removeHandler(keep)
    artifacts = [record.metadata["artifact"] for record in records if "artifact" in record.metadata]
    names = [a["name"] for a in artifacts if a["name"].startswith("tpu_dynamo/")]
    assert {name.rsplit("/", 1)[1] for name in names if "/event/" not in name} == set(FORMS)


def test_nothing_is_written_out_when_nobody_looks():
    def fail() -> str:
        raise AssertionError("written")

    Artifacts("graph").observe("form", fail)


def test_a_repro_folder_holds_what_is_known(tmp_path):
    artifacts = Artifacts("graph", tmp_path, {"early.py": lambda: "early"})
    folder = artifacts.write_repro({"late.mlir": "late"})
    assert (folder / "early.py").read_text() == "early"
    assert (folder / "late.mlir").read_text() == "late"
    assert "torch" in json.loads((folder / "versions.json").read_text())
