"""`tpu-dynamo doctor`: healthy here, and for each thing that is broken a finding with advice and an exit code."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib import metadata

import pytest

from tpu_dynamo.doctor import GROUPS, cache_directory, entry_points, trial_process, trial_results, variables, versions
from tpu_dynamo.doctor.combinations import TESTED, combination
from tpu_dynamo_runtime import plugin_installed

from ..matrix import PAGE, page
from .stores import filled, key, run


def by_name(checks) -> dict:
    return {check.name: check for check in checks}


def test_a_healthy_machine_has_no_errors_and_its_model_agrees_with_eager(tmp_path):
    done = run("doctor", "--json", directory=tmp_path / "cache")
    told = json.loads(done.stdout)
    assert [check for check in told["checks"] if check["status"] == "error"] == []
    assert done.exit_code == (1 if told["counts"]["warning"] else 0)
    checks = {check["name"]: check for check in told["checks"]}
    assert checks["torch.compile"]["facts"]["graphs"] == {"forward": 1, "backward": 1}
    assert checks["torch"]["facts"]["version"] == metadata.version("torch")
    assert (
        checks["cpu"]["status"] == checks['backend="tpu"']["status"] == checks['torch.device("tpu")']["status"] == "ok"
    )
    if plugin_installed("tpu"):
        assert checks["v5e:2x2"]["facts"]["cycles"] > 0
    assert {check["group"] for check in told["checks"]} == set(GROUPS)
    assert not (tmp_path / "cache").exists(), "looking makes no cache"


@pytest.mark.parametrize(
    ("found", "status", "text"),
    [
        pytest.param({"stage": "platforms", "chips": 4, "plugins": {"tpu": True, "cuda": False}, "auto": "tpu"}, "ok", "4 chips", id="tpu"),
        pytest.param({"stage": "platforms", "chips": 4, "plugins": {"tpu": False, "cuda": False}, "auto": "cpu"}, "error", "libtpu is not installed", id="tpu-without-libtpu"),
        pytest.param({"stage": "platforms", "chips": 0, "plugins": {"tpu": True, "cuda": True}, "auto": "cpu"}, "note", "no TPU is attached", id="no-tpu"),
        pytest.param({"stage": 'torch.device("tpu")', "owner": "npu"}, "warning", "as 'npu'", id="device"),
        pytest.param({"stage": "the backend", "module": "torch_tpu", "name": "x"}, "warning", "torch_tpu.x", id="backend"),
        pytest.param({"stage": "compile and compare", "seconds": 1, "graphs": {}, "executions": 0, "apart": 0, "tensors": 7}, "error", "nothing was compiled", id="nothing"),
        pytest.param({"stage": "compile and compare", "seconds": 1, "graphs": {"forward": 1}, "executions": 1, "apart": 0.5, "tensors": 7}, "error", "5.0e-01 apart", id="wrong"),
        pytest.param({"stage": "compile for v5e:2x2", "error": "PlatformUnavailable: no"}, "note", "libtpu is not installed", id="no-libtpu"),
        pytest.param({"stage": "import torch", "error": "the process ended with exit status -11", "log": "last words"}, "error", "last words", id="crash"),
        pytest.param({"stage": "x", "error": "E", "code": "TPU103"}, "error", "E", id="coded"),
    ],
)  # fmt: skip
def test_what_a_stage_found_is_judged(monkeypatch, found, status, text):
    monkeypatch.setattr(trial_results, "stages", lambda skipped: iter([found]))
    judged = [check for check in trial_results.checks() if text in check.found]
    assert [check.status for check in judged] == [status]
    if status in ("warning", "error"):
        assert judged[0].advice, "each finding says what to do"


def test_a_process_that_dies_is_a_finding_with_its_last_words(tmp_path, monkeypatch):
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("import os\nos.write(2, b'out of luck')\nos.abort()\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (found,) = trial_process.stages()
    assert found["stage"] == "import torch"
    assert found["error"] == "the process ended with exit status -6 (SIGABRT)"
    assert "out of luck" in found["log"]


def test_an_error_in_one_stage_leaves_the_others(tmp_path, monkeypatch):
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('broken')\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    found = list(trial_process.stages(("compile and compare",)))
    assert found[0]["error"] == "ImportError: broken"
    assert len(found) == 7


@pytest.fixture
def another_owner(tmp_path, monkeypatch):
    """A package that registers the backend `tpu` and comes first."""
    folder = tmp_path / "torch_tpu-0.2.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: torch_tpu\nVersion: 0.2\n")
    points = "[torch_dynamo_backends]\ntpu = torch_tpu:backend\n[torch.backends]\ntorch_tpu = torch_tpu:load\n"
    (folder / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(tmp_path)


def test_who_else_wants_the_name_of_the_backend_is_told(another_owner):
    checks = by_name(entry_points.checks())
    taken = checks['backend="tpu"']
    assert taken.status == "warning"
    assert "torch_tpu (torch_tpu:backend) comes first" in taken.found
    assert taken.advice == 'torch.compile(model, backend="tpu_dynamo")'
    assert checks['backend="tpu_dynamo"'].status == "ok"
    assert checks["autoload torch_tpu"].status == "note"


def test_a_version_that_does_not_fit_is_an_error_that_says_what_to_install(monkeypatch):
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: {"torch": "2.12.1", "jax": None}.get(name) or real(name))
    monkeypatch.setattr(metadata, "requires", lambda name: ["torch~=2.13.0"])
    found = by_name(versions.checks())["torch"]
    assert found.status == "error"
    assert found.found == "2.12.1, and tpu-dynamo needs ~=2.13.0"
    assert found.advice == "pip install 'torch~=2.13.0'"


def test_versions_that_were_never_tested_together_are_named(monkeypatch):
    here = combination(
        {"python": platform.python_version(), "torch": metadata.version("torch"), "jax": metadata.version("jax")}
    )
    monkeypatch.setattr(versions, "tested", lambda: {here: 0})
    assert "together" not in by_name(versions.checks())
    monkeypatch.setattr(versions, "tested", lambda: {here: 3})
    assert by_name(versions.checks())["together"].status == "note"
    monkeypatch.setattr(versions, "tested", lambda: {("3.9", "2.1", "0.4"): 0})
    found = by_name(versions.checks())["together"]
    assert found.status == "warning"
    assert found.found == "Python {}, torch {} and jax {} were never tested together".format(*here)
    assert found.advice == "use one of Python 3.9, torch 2.1, jax 0.4"


def test_what_was_tested_is_in_the_docs():
    assert PAGE.read_text() == page(json.loads(TESTED.read_text()))


def test_what_is_missing_is_an_error_where_it_is_needed(monkeypatch):
    real = metadata.version

    def version(name):
        if name in ("jaxlib", "libtpu"):
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    found = by_name(versions.checks())
    assert found["jaxlib"].status == "error"
    assert found["libtpu"].status == "note"


def test_the_cache_is_looked_at(tmp_path):
    filled(tmp_path / "cache")
    found = by_name(cache_directory.checks(tmp_path / "cache"))
    assert found["directory"].status == found["entries"].status == found["free space"].status == "ok"
    assert found["entries"].facts["entries"] == 4
    path = tmp_path / "cache" / "entries" / "program" / key("bert")[:2] / key("bert")
    path.write_bytes(b"bad")
    bad = by_name(cache_directory.checks(tmp_path / "cache"))["entries"]
    assert (bad.status, bad.advice) == ("warning", "tpu-dynamo cache verify --repair")
    os.chmod(tmp_path / "cache", 0o777)
    refused = by_name(cache_directory.checks(tmp_path / "cache"))["directory"]
    assert refused.status == "warning"
    assert "others may write to it" in refused.found
    assert by_name(cache_directory.checks(tmp_path / "none"))["directory"].status == "ok"


def test_too_little_room_is_a_finding(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_directory.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1 << 20}))
    assert by_name(cache_directory.checks(tmp_path))["free space"].status == "warning"


@pytest.mark.parametrize(
    ("name", "value", "status", "text"),
    [
        ("TORCHDYNAMO_DISABLE", "1", "warning", "eager"),
        ("TPU_DYNAMO_CACHE_DRI", "x", "warning", "no such variable"),
        ("TPU_DYNAMO_CACHE", "perhaps", "warning", "the cache is off"),
        ("TPU_DYNAMO_CACHE_MAX_BYTES", "lots", "warning", "10 GiB"),
        ("TPU_DYNAMO_CACHE_MAX_BYTES", "20GiB", "note", "20GiB"),
        ("XLA_FLAGS", "--xla_dump_to=x", "note", "--xla_dump_to=x"),
    ],
    ids=["dynamo-off", "misspelt", "meaningless", "no-size", "size", "flags"],
)
def test_variables_that_matter_are_told(monkeypatch, name, value, status, text):
    monkeypatch.setenv(name, value)
    found = by_name(variables.checks())[name]
    assert found.status == status
    assert text in found.found
    assert (found.advice is not None) == (status == "warning")


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("note", 0), ("warning", 1), ("error", 3)])
def test_the_worst_finding_decides_on_the_exit_code(monkeypatch, status, code):
    import tpu_dynamo.doctor as package

    check = package.Check("Cache", "a thing", status, "it is so [not markup]", "do [this]")
    monkeypatch.setattr(package, "examine", lambda directory, quick: iter([check]))
    done = run("doctor")
    assert done.exit_code == code
    assert "it is so [not markup]" in done.stdout
    assert ("try: do [this]" in done.stdout) == bool(code)
    assert "For a bug report attach" in done.stdout
