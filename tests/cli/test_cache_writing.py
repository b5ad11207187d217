"""`cache prune`, `rm`, `clear`, `export`, `import`, `push` and `pull`: what goes, what comes, and what stays."""

from __future__ import annotations

import json
import tarfile
import uuid

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

from tpu_dynamo.cli import app, confirmation
from tpu_dynamo_runtime.store import open_store

from .stores import damage, filled, kept, key, program, run, told

ALL = {key(name) for name in ("bert", "bert on cpu", "bert on tpu", "resnet")}


@pytest.fixture
def directory(tmp_path):
    filled(tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}"


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        pytest.param(["rm", key("bert")[:10]], {"bert on cpu", "bert on tpu", "resnet"}, id="rm-key"),
        pytest.param(["rm", key("bert"), key("resnet")], {"bert on cpu", "bert on tpu"}, id="rm-keys"),
        pytest.param(["rm", "--graph", "bert"], {"resnet"}, id="rm-graph"),
        pytest.param(
            ["rm", "--kind", "executable", "--platform", "tpu"], {"bert", "bert on cpu", "resnet"}, id="rm-of"
        ),
        pytest.param(["prune", "--max-age", "30d"], set(), id="prune-age"),
        pytest.param(["prune", "--max-age", "200w"], {"bert", "bert on cpu", "bert on tpu", "resnet"}, id="prune-none"),
        pytest.param(["prune", "--max-size", "1200"], {"resnet"}, id="prune-size"),
        pytest.param(["prune", "--max-size", "0"], set(), id="prune-all"),
        pytest.param(["clear"], set(), id="clear"),
    ],
)
def test_what_is_removed_is_what_was_said_and_a_dry_run_says_the_same(directory, arguments, left):
    dry = told("cache", *arguments, "--dry-run", directory=directory)
    assert dry["dry_run"]
    assert kept(directory) == ALL
    assert {row["key"] for row in dry["removed"]} == ALL - set(map(key, left))
    done = run("cache", *arguments, "--yes", "--json", directory=directory)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["removed"] == dry["removed"]
    assert kept(directory) == set(map(key, left))


@pytest.mark.parametrize("verb", [["clear"], ["rm", key("bert")], ["prune", "--max-size", "0"]], ids=" ".join)
def test_nothing_is_removed_where_nobody_can_be_asked(directory, verb):
    done = run("cache", *verb, directory=directory)
    assert done.exit_code == 2
    assert "say --yes" in done.stderr
    assert kept(directory) == ALL


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, set()), ("n\n", 6, ALL)], ids=["yes", "no"])
def test_a_person_at_a_terminal_is_asked(directory, monkeypatch, answer, code, left):
    class Terminal:
        def isatty(self):
            return True

    monkeypatch.setattr(confirmation, "sys", type("Sys", (), {"stdin": Terminal()}))
    done = CliRunner().invoke(app, ["cache", "clear", "--cache-dir", str(directory)], input=answer)
    assert done.exit_code == code
    assert "Remove 2 programs and 2 executables" in done.stderr
    assert kept(directory) == left


def test_what_is_to_go_has_to_be_said(directory):
    assert run("cache", "prune", directory=directory).exit_code == 2
    assert run("cache", "rm", directory=directory).exit_code == 2
    assert kept(directory) == ALL


def test_pruning_takes_what_no_process_can_find(tmp_path):
    """Entries of a made-up installation are all stale, and what was said of none stays."""
    directory = tmp_path / "cache"
    store = filled(directory)
    assert store.put("other", key("other"), {}, {})
    pruned = told("cache", "prune", "--stale", "--yes", directory=directory)
    assert {row["key"] for row in pruned["removed"]} == ALL
    assert kept(directory) == {key("other")}


def test_a_cache_that_can_only_be_read_is_not_changed(directory, monkeypatch):
    monkeypatch.setenv("TPU_DYNAMO_CACHE", "read_only")
    done = run("cache", "clear", "--yes", directory=directory)
    assert done.exit_code == 5
    assert "can only be read" in done.stderr
    assert kept(directory) == ALL


def test_an_archive_carries_entries_to_another_machine(directory, tmp_path):
    out = tmp_path / "out.tar"
    assert len(told("cache", "export", out, directory=directory)["entries"]) == 4
    refused = run("cache", "import", out, directory=tmp_path / "other")
    assert refused.exit_code == 2
    assert "Executables are native code" in refused.stderr
    assert "2 programs and 2 executables" in refused.stderr
    done = run("cache", "import", out, "--yes", "--json", directory=tmp_path / "other")
    assert done.exit_code == 0, done.output
    assert [row["outcome"] for row in json.loads(done.stdout)["entries"]] == ["new"] * 4
    assert kept(tmp_path / "other") == ALL
    again = told("cache", "import", out, "--yes", directory=tmp_path / "other")
    assert {row["outcome"] for row in again["entries"]} == {"known"}


def test_what_is_portable_holds_no_native_code_and_is_taken_without_asking(directory, tmp_path):
    out = tmp_path / "out.tar"
    assert run("cache", "export", out, "--portable", directory=directory).exit_code == 0
    with tarfile.open(out) as archive:
        assert {name.split("/")[1] for name in archive.getnames()} == {"program"}
    done = run("cache", "import", out, directory=tmp_path / "other")
    assert done.exit_code == 0, done.output
    assert "native code" not in done.stderr
    assert kept(tmp_path / "other") == {key("bert"), key("resnet")}


def test_a_dry_run_of_an_import_makes_nothing(directory, tmp_path):
    out = tmp_path / "out.tar"
    assert run("cache", "export", out, "--graph", "bert", directory=directory).exit_code == 0
    assert len(told("cache", "import", out, "--dry-run", directory=tmp_path / "other")["entries"]) == 3
    assert not (tmp_path / "other").exists()


def test_an_export_writes_over_nothing_without_being_told_to(directory, tmp_path):
    out = tmp_path / "out.tar"
    out.write_text("mine")
    assert run("cache", "export", out, directory=directory).exit_code == 2
    assert out.read_text() == "mine"
    assert run("cache", "export", out, "-y", directory=directory).exit_code == 0
    assert out.read_text(errors="replace") != "mine"


def test_what_is_damaged_is_not_exported_and_ends_with_5(directory, tmp_path):
    damage(directory, "program", "bert")
    done = run("cache", "export", tmp_path / "out.tar", directory=directory)
    assert done.exit_code == 5
    assert "damaged" in done.stderr
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert len(archive.getnames()) == 3


def test_a_damaged_member_is_refused_and_the_others_are_taken(directory, tmp_path):
    out = tmp_path / "out.tar"
    assert run("cache", "export", out, "--portable", directory=directory).exit_code == 0
    with tarfile.open(out) as archive:
        member = archive.getmember(f"entries/program/{key('bert')[:2]}/{key('bert')}")
    data = bytearray(out.read_bytes())
    data[member.offset_data + member.size - 1] ^= 1
    out.write_bytes(data)
    done = run("cache", "import", out, directory=tmp_path / "other")
    assert done.exit_code == 5
    assert f"refused {member.name}: the checksum" in done.stderr
    assert kept(tmp_path / "other") == {key("resnet")}


@pytest.mark.parametrize("cut", [100, 3000], ids=["header", "middle"])
def test_a_cut_archive_ends_with_5(directory, tmp_path, cut):
    out = tmp_path / "out.tar"
    assert run("cache", "export", out, "--portable", directory=directory).exit_code == 0
    out.write_bytes(out.read_bytes()[:cut])
    assert run("cache", "import", out, directory=tmp_path / "other").exit_code == 5
    assert run("cache", "import", tmp_path / "none.tar", directory=tmp_path / "other").exit_code == 2


def test_an_import_that_would_push_out_other_entries_is_refused(directory, tmp_path, monkeypatch):
    out = tmp_path / "out.tar"
    assert run("cache", "export", out, directory=directory).exit_code == 0
    other = open_store(tmp_path / "other")
    program(other, "gpt", "GPT.forward")
    monkeypatch.setenv("TPU_DYNAMO_CACHE_MAX_BYTES", "4000")
    done = run("cache", "import", out, "--yes", directory=tmp_path / "other")
    assert done.exit_code == 5
    assert "other entries would go" in done.stderr
    assert kept(tmp_path / "other") == {key("gpt")}


def test_a_remote_tier_carries_entries_too(directory, tmp_path, url):
    pushed = told("cache", "push", "--remote", url, "--kind", "program", directory=directory)
    assert {row["key"] for row in pushed["pushed"]} == {key("bert"), key("resnet")}
    again = told("cache", "push", "--remote", url, directory=directory)
    assert {row["key"] for row in again["pushed"]} == {key("bert on cpu"), key("bert on tpu")}
    assert again["known"] == 2

    other = tmp_path / "other"
    assert run("cache", "pull", "--remote", url, directory=other).exit_code == 2, "executables are to be trusted"
    pulled = told("cache", "pull", "--remote", url, "--kind", "program", directory=other)
    assert {row["key"] for row in pulled["pulled"]} == {key("bert"), key("resnet")}
    assert len(told("cache", "pull", "--remote", url, "--yes", directory=other)["pulled"]) == 2
    assert kept(other) == ALL


def test_a_damaged_entry_of_a_remote_is_refused(directory, tmp_path, url):
    assert run("cache", "push", "--remote", url, "--kind", "program", directory=directory).exit_code == 0
    name = key("bert")
    MemoryFileSystem().pipe_file(f"{url.removeprefix('memory:/')}/program/{name[:2]}/{name}", b"bad")
    done = run("cache", "pull", "--remote", url, directory=tmp_path / "other")
    assert done.exit_code == 5
    assert "remote_damaged" in done.stderr
    assert kept(tmp_path / "other") == {key("resnet")}


def test_a_remote_that_does_not_answer_ends_with_5_and_none_with_2(directory, monkeypatch):
    monkeypatch.delenv("TPU_DYNAMO_CACHE_REMOTE", raising=False)
    assert run("cache", "push", directory=directory).exit_code == 2
    done = run("cache", "push", "--remote", "nonsense://x", directory=directory)
    assert done.exit_code == 5
    assert "remote_failed" in done.stderr
