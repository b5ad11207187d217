"""`cache dir`, `ls`, `info`, `explain` and `verify`: what they say, and that they change nothing."""

from __future__ import annotations

import json
import os

import pytest
import torch
from typer.testing import CliRunner

from tpu_dynamo.cache.entries import describe
from tpu_dynamo.cache.executables import executable_key
from tpu_dynamo.cache.staleness import Present
from tpu_dynamo.cli import app
from tpu_dynamo_runtime.store import entries, open_store

from .stores import damage, executable, filled, kept, key, program, run, told


@pytest.fixture
def directory(tmp_path):
    filled(tmp_path / "cache")
    return tmp_path / "cache"


def test_the_directory_is_printed_alone(directory, monkeypatch):
    monkeypatch.setenv("TPU_DYNAMO_CACHE_DIR", str(directory))
    assert run("cache", "dir").stdout == f"{directory}\n"
    assert told("cache", "dir") == {"directory": str(directory)}


def test_a_cache_that_was_never_made_has_no_entries_and_is_not_made(tmp_path):
    done = run("cache", "ls", directory=tmp_path / "none")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "0 entries" in done.stderr
    assert not (tmp_path / "none").exists()


def test_entries_are_listed_with_their_graphs_the_latest_used_first(directory):
    lines = run("cache", "ls", directory=directory).stdout.splitlines()
    assert lines[0].split() == ["KEY", "KIND", "PLATFORM", "SIZE", "PLAIN", "LAST", "USED", "GRAPH"]
    assert [line.split()[0] for line in lines[1:]] == [
        key(name)[:12] for name in ("resnet", "bert on tpu", "bert on cpu", "bert")
    ]
    assert "inference ResNet(x 1x3)" in lines[1]
    assert "inference Bert(x 2x8)" in lines[2], "an executable is named after its program"


def test_a_narrow_terminal_shows_graphs_before_plain_sizes(directory, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("cache", "ls", directory=directory).stdout.splitlines()
    assert lines[0].split() == ["KEY", "KIND", "SIZE", "LAST", "USED", "GRAPH"]
    assert all(len(line) <= 80 for line in lines)
    assert "inference Bert(x 2x8)" in lines[2]


def test_a_listing_as_json_has_every_entry_in_full(directory):
    (first, *_) = listed = told("cache", "ls", directory=directory)
    assert len(listed) == 4
    assert first["key"] == key("resnet")
    assert first["size"] > 0
    assert first["plain_size"] == 2 + 900 + 21
    assert first["platform"] == "cpu"
    assert first["last_use"] > 1_700_000_000


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        pytest.param(["--kind", "program"], {"bert", "resnet"}, id="kind"),
        pytest.param(["--platform", "tpu"], {"bert on tpu"}, id="platform"),
        pytest.param(["--graph", "BERT"], {"bert", "bert on cpu", "bert on tpu"}, id="graph"),
        pytest.param(["--graph", "bert", "--kind", "program"], {"bert"}, id="both"),
        pytest.param(["--larger-than", "1GiB"], set(), id="size"),
        pytest.param(["--unused-for", "1d"], {"bert", "bert on cpu", "bert on tpu", "resnet"}, id="age"),
        pytest.param(["--unused-for", "200w"], set(), id="longer"),
    ],
)
def test_filters_choose(directory, arguments, names):
    assert {row["key"] for row in told("cache", "ls", *arguments, directory=directory)} == set(map(key, names))


def test_keys_alone_are_for_pipes(directory):
    done = run("cache", "ls", "-q", "--kind", "program", directory=directory)
    assert done.stdout == f"{key('resnet')}\n{key('bert')}\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [["--larger-than", "much"], ["--unused-for", "5"], ["--sort", "name"]],
    ids=["size", "age", "order"],
)
def test_a_value_that_means_nothing_is_refused(directory, arguments):
    assert run("cache", "ls", *arguments, directory=directory).exit_code == 2


def test_an_entry_that_cannot_be_read_is_listed_as_such(directory):
    path = directory / "entries" / "program" / key("bert")[:2] / key("bert")
    path.write_bytes(b"bad")
    done = run("cache", "ls", directory=directory)
    assert done.exit_code == 0
    assert "damaged: 3 bytes are too few" in done.stdout


def test_info_shows_inputs_sections_and_what_belongs_together(directory):
    done = run("cache", "info", key("bert")[:9], directory=directory)
    assert done.exit_code == 0, done.output
    for text in (key("bert"), "inference Bert(x 2x8)", "L['x']", "float32", "stablehlo", key("bert on tpu")[:12]):
        assert text in done.stdout
    data = told("cache", "info", key("bert on cpu"), directory=directory)
    assert [section["name"] for section in data["sections"]] == ["executable"]
    assert data["metadata"]["compile_seconds"] == 0.5
    assert {row["key"] for row in data["related"]} == {key("bert"), key("bert on tpu")}


@pytest.mark.parametrize("wanted", ["zz", "", "0" * 64], ids=["no-hex", "empty", "other"])
def test_a_key_that_is_nobodys_is_refused(directory, wanted):
    done = run("cache", "info", wanted, directory=directory)
    assert done.exit_code == 2
    assert "no entry has a key that begins with" in done.stderr


def test_an_ambiguous_key_is_refused_with_those_that_it_could_be(tmp_path):
    store = open_store(tmp_path)
    names = [f"program {i}" for i in range(17)]
    for name in names:
        program(store, name, "Model.forward")
    firsts = [key(name)[0] for name in names]
    twice = next(first for first in firsts if firsts.count(first) > 1)
    done = run("cache", "info", twice, directory=tmp_path)
    assert done.exit_code == 2
    assert f"the keys of {firsts.count(twice)} entries begin with {twice!r}" in done.stderr
    assert "inference Model(x 2x8)" in done.stderr


def test_two_entries_are_compared_in_words(tmp_path):
    store = open_store(tmp_path)
    program(store, "old", "Model.forward", libtpu="0.0.51")
    program(store, "new", "Model.forward", sizes=(3, 8))
    executable(store, "a", "old")
    executable(store, "b", "old", jaxlib="0.10.3")
    done = run("cache", "explain", key("old"), key("new"), directory=tmp_path)
    assert done.exit_code == 0, done.output
    assert "libtpu 0.0.51 -> 0.0.52\nguard L['x'].size()[0] was 2, now 3\n" in done.stdout
    compared = told("cache", "explain", key("a"), key("b"), directory=tmp_path)
    assert compared["differences"] == ["jaxlib 0.10.2 -> 0.10.3"]
    refused = run("cache", "explain", key("a"), key("old"), directory=tmp_path)
    assert refused.exit_code == 2


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A cache that the backend filled with one graph."""
    monkeypatch.setenv("TPU_DYNAMO_CACHE_DIR", str(tmp_path / "made"))

    class Model(torch.nn.Module):
        def forward(self, x):
            return x.sin() + 1

    with torch.no_grad():
        torch.compile(Model(), backend="tpu")(torch.ones(3))
    return tmp_path / "made"


def rewritten(directory, kind, change):
    """The one entry of a kind, written again with other metadata, under the same key."""
    store = open_store(directory)
    (listed,) = entries(store, kind)
    entry = store.get(kind, listed.key)
    assert entry is not None
    metadata = json.loads(json.dumps(entry.header.metadata))
    change(metadata)
    assert store.put(kind, listed.key, entry.sections, metadata)
    return listed.key


def test_what_the_backend_makes_is_named_and_not_stale(made):
    described = describe(entries(open_store(made, read_only=True)))
    assert [item.entry.kind for item in described] == ["executable", "program"]
    assert {item.graph for item in described} == {"inference made.<locals>.Model(x 3)"}
    assert [Present().reasons(item) for item in described] == [[], []]
    assert told("cache", "ls", "--stale", directory=made) == []
    for item in described:
        assert told("cache", "explain", item.entry.key, directory=made)["stale"] == []


def test_what_was_made_with_other_versions_is_stale_and_says_why(made):
    name = rewritten(made, "program", lambda metadata: metadata["key_parts"]["versions"].update(libtpu="0.0.51"))
    done = run("cache", "explain", name, directory=made)
    assert done.exit_code == 1
    assert "Stale here, no process can find it:\n  libtpu 0.0.51 -> " in done.stdout
    assert [row["key"] for row in told("cache", "ls", "--stale", directory=made)] == [name]


def test_an_executable_of_another_machine_is_stale_and_one_with_other_flags_is_not(made):
    store = open_store(made)
    (own,) = entries(store, "executable")
    assert own.header is not None
    program, environment = own.header.metadata["program"], own.header.metadata["environment"]
    for changed in ({"CPUs": "999", "XLA_FLAGS": ["--xla_x"], "xla_flags": ["xla_y=1"]}, {"CPU": "another"}):
        there = {**environment, **changed}
        metadata = {"program": program, "environment": there}
        assert store.put("executable", executable_key(program, there), {"executable": b""}, metadata)
    (stale,) = told("cache", "ls", "--stale", directory=made)
    assert stale["key"] == executable_key(program, {**environment, "CPU": "another"})
    done = run("cache", "explain", stale["key"], directory=made)
    assert done.exit_code == 1
    assert "  CPU another -> " in done.stdout


def test_flags_in_the_options_are_shown_with_the_executable(made):
    with torch.no_grad():
        options = {"xla_flags": {"xla_cpu_enable_fast_math": True}}
        torch.compile(torch.cos, backend="tpu", options=options)(torch.ones(3))
    shown = [
        run("cache", "info", listed.key, directory=made).stdout for listed in entries(open_store(made), "executable")
    ]
    assert sum("xla_cpu_enable_fast_math=True" in text for text in shown) == 1


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("executable", lambda metadata: metadata["environment"].update(CPUs="999")),
        ("program", lambda metadata: metadata["key_parts"].update(graph="another")),
    ],
    ids=["executable", "program"],
)
def test_an_entry_whose_key_is_made_in_another_way_is_stale(made, kind, change):
    name = rewritten(made, kind, change)
    assert [row["key"] for row in told("cache", "ls", "--stale", directory=made)] == [name]


def test_of_an_entry_that_says_nothing_nothing_is_said(tmp_path):
    store = open_store(tmp_path)
    assert store.put("other", key("other"), {}, {})
    assert told("cache", "explain", key("other"), directory=tmp_path)["stale"] is None
    executable(store, "elsewhere", "x", platform="neuron")
    (described,) = describe(entries(store, "executable"))
    assert Present().reasons(described) is None


def test_checking_finds_damage_and_repairs_where_it_is_asked_to(directory):
    assert run("cache", "verify", directory=directory).exit_code == 0
    damage(directory, "program", "bert")
    done = run("cache", "verify", directory=directory)
    assert done.exit_code == 5
    assert key("bert") in done.stdout
    assert "checksum" in done.stdout
    assert len(kept(directory)) == 4
    assert run("cache", "verify", key("resnet")[:8], directory=directory).exit_code == 0
    repaired = run("cache", "verify", "--repair", "--json", directory=directory)
    assert repaired.exit_code == 1
    assert json.loads(repaired.stdout)["damaged"][0]["key"] == key("bert")
    assert len(kept(directory)) == 3
    assert run("cache", "verify", directory=directory).exit_code == 0


def test_reading_verbs_change_nothing(directory):
    def state():
        return {path: (path.stat().st_mtime, path.stat().st_ino) for path in directory.rglob("*")}

    damage(directory, "program", "bert")
    before = state()
    for verb in (["ls"], ["info", key("bert")], ["verify"], ["dir"], ["explain", key("resnet"), key("bert")]):
        run("cache", *verb, directory=directory)
    run("cache", "clear", "--dry-run", directory=directory)
    run("cache", "export", directory.parent / "out.tar", directory=directory)
    assert state() == before


def test_a_directory_that_others_may_write_to_is_refused(directory):
    os.chmod(directory, 0o777)
    done = run("cache", "ls", directory=directory)
    assert done.exit_code == 5
    assert "others may write to it" in done.stderr
    os.chmod(directory, 0o700)


def test_a_shell_completes_keys(directory, monkeypatch):
    monkeypatch.setenv("TPU_DYNAMO_CACHE_DIR", str(directory))
    environment = {"_TPU_DYNAMO_COMPLETE": "complete_bash", "COMP_CWORD": "3"}
    for words, expected in (("cache info ", 4), (f"cache info {key('bert')[:3]}", 1)):
        shell = {**environment, "COMP_WORDS": f"tpu-dynamo {words}"}
        done = CliRunner().invoke(app, prog_name="tpu-dynamo", env=shell)
        assert len(done.stdout.split()) == expected
    assert done.stdout.split() == [key("bert")[:12]]
