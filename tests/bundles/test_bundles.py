"""Bundles: packed, replayed, refused where they are damaged, and without names where that is asked."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.numerics import planted
from tpu_dynamo.bundles.archive import read_bundle
from tpu_dynamo.bundles.manifest import BadBundle
from tpu_dynamo.bundles.packing import pack
from tpu_dynamo.bundles.replaying import replay
from tpu_dynamo.cli import app
from tpu_dynamo.cli.exit_codes import ExitCode


class Secret(torch.nn.Module):
    """A model with a loop, draws, a constant, a dtype and a buffer that it writes to."""

    def __init__(self):
        super().__init__()
        self.register_buffer("secret_buffer", torch.zeros(4))
        self.table = torch.tensor([1.0, float("inf"), 3.0, 4.0])

    def forward(self, secret_input):
        self.secret_buffer.add_(secret_input.mean(0))
        x = torch.nn.functional.dropout(secret_input, 0.5) + torch.tensor([0.5, 1.5, 2.5, 3.5])
        x = torch.div(x, 0.3, rounding_mode="floor").to(torch.bfloat16).transpose(0, 1)
        return x.float().clamp(max=float("inf")).std(0), torch.arange(3, device=x.device), x[1:, ::2]


def test_a_bundle_is_replayed_as_it_was_packed(tmp_path):
    path = tmp_path / "b.zip"
    manifest = pack(path, Secret(), (torch.randn(3, 4),), target="cpu")
    (graph,) = manifest.graphs
    assert graph.reached == ("lowering", "XLA") and graph.failure is None and graph.values is None
    assert sorted(value["shape"] for value in graph.inputs) == [[3, 4], [4]]
    found = replay(path)
    assert not found.fails and not found.different and [each.verdict for each in found.graphs] == ["as packed"]


def test_with_values_graphs_are_checked_and_a_wrong_operator_is_wrong_again(tmp_path):
    path = tmp_path / "b.zip"
    assert pack(path, Secret(), (torch.randn(3, 4),), target="cpu", values=True).graphs[0].reached[-1] == "check"
    assert replay(path).graphs[0].reached[-1] == "check"
    manifest = pack(path, *planted.make_wrong(), target="cpu", values=True, training=True)
    assert [graph.failure.stage for graph in manifest.graphs] == ["check", "check"]
    found = replay(path)
    assert [each.verdict for each in found.graphs] == ["fails as packed"] * 2
    assert "planted_faults.off.default" in found.graphs[0].now.message


def test_an_operator_without_a_lowering_is_packed_with_its_stage(tmp_path):
    planted._LIBRARY.define("unlowered(Tensor x) -> Tensor")
    torch.library.register_fake("planted_faults::unlowered", torch.empty_like, lib=planted._LIBRARY)
    unlowered = torch.ops.planted_faults.unlowered.default
    manifest = pack(tmp_path / "b.zip", lambda x: unlowered(x.sin()), (torch.randn(3),), target="cpu")
    failure = manifest.graphs[0].failure
    assert (failure.stage, failure.type, failure.code) == ("lowering", "UnsupportedOp", "TPU101")
    assert replay(tmp_path / "b.zip").graphs[0].verdict == "fails as packed"


def test_a_whole_step_is_packed(tmp_path):
    model, args = planted.make_right_loss()
    manifest = pack(tmp_path / "b.zip", model, args, target="cpu", optimizer=planted.sgd)
    assert [graph.role for graph in manifest.graphs] == ["step"] and manifest.graphs[0].on_device
    assert not replay(tmp_path / "b.zip").fails


def test_what_is_redacted_names_nothing_of_the_users(tmp_path):
    path = tmp_path / "b.zip"
    pack(path, Secret(), (torch.randn(3, 4),), target="cpu", redact=True)
    _, files = read_bundle(path)
    everything = b"".join(files.values()).lower()
    for word in (b"secret", b"test_bundles", str(Path(__file__).parents[2]).encode()):
        assert word not in everything
    assert b"floor" in everything  # PyTorch's own word
    assert not replay(path).fails


def rewritten(path: Path, change) -> Path:
    """Write the bundle again with other members: `change` is given their names and bytes, and may add to them."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def truncate_graph(members):
    name = next(name for name in members if name.endswith("graph.json"))
    members[name] = members[name][:-1] + b" "


def lie_about_sizes(members):
    manifest = json.loads(members["manifest.json"])
    for file in manifest["files"].values():
        file["bytes"] = 3
    members["manifest.json"] = json.dumps(manifest).encode()


def of_a_later_version(members):
    members["manifest.json"] = members["manifest.json"].replace(b'"version": 1', b'"version": 2')


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(truncate_graph, "checksum", id="damaged"),
        pytest.param(lie_about_sizes, "larger than it says", id="sizes"),
        pytest.param(lambda members: members.update({"../../outside": b""}), "not those of its manifest", id="slip"),
        pytest.param(lambda members: members.pop("manifest.json"), "no manifest", id="no-manifest"),
        pytest.param(lambda members: members.update({"manifest.json": b"{}"}), "manifest is wrong", id="manifest"),
        pytest.param(of_a_later_version, "manifest is wrong at version", id="version"),
    ],
)
def test_a_bundle_that_is_not_what_it_says_is_refused(change, words, tmp_path):
    path = tmp_path / "b.zip"
    pack(path, torch.sin, (torch.randn(3),), target="cpu")
    with pytest.raises(BadBundle, match=words):
        replay(rewritten(path, change))


@pytest.mark.parametrize(
    "options", [{"dump_dir": "/tmp/x"}, {"xla_flags": [["xla_dump_to", "x"]]}, {"xla_flags": [["xla_other", "/etc/x"]]}]
)
def test_options_of_a_bundle_name_no_files(options, tmp_path):
    def change(members):
        manifest = json.loads(members["manifest.json"])
        members["manifest.json"] = json.dumps({**manifest, "options": options}).encode()

    path = tmp_path / "b.zip"
    pack(path, torch.sin, (torch.randn(3),), target="cpu")
    with pytest.raises(BadBundle, match="name files of this machine"):
        replay(rewritten(path, change))


def test_sizes_are_bounded(tmp_path):
    path = tmp_path / "b.zip"
    with pytest.raises(BadBundle, match="are allowed"):
        pack(path, torch.sin, (torch.randn(1000),), target="cpu", values=True, max_bytes=2000)
    assert not path.exists()
    pack(path, torch.sin, (torch.randn(3),), target="cpu")
    with pytest.raises(BadBundle, match="are allowed"):
        replay(path, max_bytes=10)
    path.write_bytes(b"no zip file")
    with pytest.raises(BadBundle, match="no zip file"):
        replay(path)


def test_an_operator_that_is_not_defined_says_what_to_do(tmp_path):
    path = tmp_path / "b.zip"
    pack(path, *planted.make_wrong(), target="cpu")
    _, files = read_bundle(path)
    graph = json.loads(files["graphs/0000-inference/graph.json"])
    from tpu_dynamo_lowering import NotData, graph_from_data

    for node in graph["nodes"]:
        if node.get("target", "").startswith("planted_faults"):
            node["target"] = "no_such_library::off.default"
    with pytest.raises(NotData, match="import the library that defines it"):
        graph_from_data(graph, {})
    graph["nodes"][0]["op"] = "call_module"
    with pytest.raises(NotData, match="call_module"):
        graph_from_data(graph, {})


def test_the_verbs_say_what_became_of_the_graphs(tmp_path):
    path = str(tmp_path / "b.zip")
    packed = CliRunner().invoke(app, ["pack", "tests.numerics.planted:make_right", "--target", "cpu", "-o", path])
    assert packed.exit_code == ExitCode.OK and "lowering, XLA" in packed.output
    assert "as packed" in CliRunner().invoke(app, ["replay", path]).output
    wrong = ["pack", "tests.numerics.planted:make_wrong", "--target", "cpu", "-o", path, "--values", "--json"]
    assert CliRunner().invoke(app, wrong).exit_code == ExitCode.FINDINGS
    again = CliRunner().invoke(app, ["replay", path, "--import", "tests.numerics.planted"])
    assert again.exit_code == ExitCode.FINDINGS and "fails as packed" in again.output
    assert CliRunner().invoke(app, ["replay", path, "--max-size", "1"]).exit_code == ExitCode.USAGE
