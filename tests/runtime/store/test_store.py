"""The store: entries found and replaced, faults counted and told once, a clean package, documented names."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tpu_dynamo_runtime.store import Fault, Faults, Header, open_store

from .processes import SOURCE
from .stores import KEY, KIND, entry_path, kept, key, new_store, put, sections

ROOT = Path(__file__).parents[3]


def test_an_entry_is_found_by_kind_and_key(tmp_path):
    store = new_store(tmp_path)
    assert store.get(KIND, KEY) is None
    put(store, KEY)
    found = new_store(tmp_path).get(KIND, KEY)
    assert found is not None
    assert found.sections == sections(KEY)
    assert found.header.metadata == {"name": KEY}
    assert isinstance(found.header, Header)
    assert store.get("program", KEY) is None
    assert store.get(KIND, key(1)) is None
    assert not store.faults.counts()


def test_only_some_sections_may_be_asked_for(tmp_path):
    store = new_store(tmp_path)
    put(store, KEY)
    found = store.get(KIND, KEY, only=["outputs"])
    assert found is not None
    assert found.sections == {"outputs": b""}
    assert [section.name for section in found.header.sections] == ["executable", "stablehlo", "outputs"]


def test_a_later_entry_takes_the_place_of_an_earlier_one(tmp_path):
    store = new_store(tmp_path)
    put(store, KEY)
    assert store.put(KIND, KEY, {"a": b"new"}, {})
    found = store.get(KIND, KEY)
    assert found is not None
    assert found.sections == {"a": b"new"}
    assert kept(store) == {KEY}


@pytest.mark.parametrize("name", ["../../x", "", "AB" * 32, "ab"])
def test_a_name_that_no_entry_can_have_is_the_callers_mistake(tmp_path, name):
    store = new_store(tmp_path)
    for call in (
        lambda: store.get(KIND, name),
        lambda: store.put(KIND, name, {}, {}),
        lambda: store.reject(KIND, name, "no"),
        lambda: store.exclusive(KIND, name).__enter__(),
        lambda: store.get_file(KIND, name),
        lambda: store.get("../" + KIND, KEY),
    ):
        with pytest.raises(ValueError, match="names no entry"):
            call()


def test_an_entry_larger_than_the_store_is_not_kept(tmp_path):
    store = new_store(tmp_path, max_bytes=5000)
    assert not store.put(KIND, KEY, sections(KEY, 6000), {})
    assert not store.put(KIND, KEY, {}, {"x": "y" * (5 << 20)})
    assert store.faults.counts() == {"too_large": 2}
    assert store.get(KIND, KEY) is None
    put(store, KEY, 4000)
    assert kept(store) == {KEY}


def test_memory_that_runs_out_is_a_counted_fault(tmp_path, monkeypatch):
    store = new_store(tmp_path)
    put(store, KEY)

    def exhausted(*_):
        raise MemoryError

    monkeypatch.setattr("tpu_dynamo_runtime.store.store.encode", exhausted)
    monkeypatch.setattr("tpu_dynamo_runtime.store.store.read_entry", exhausted)
    assert store.get(KIND, KEY) is None
    assert not store.put(KIND, KEY, {}, {})
    assert store.faults.counts() == {"unreadable": 1, "unwritable": 1}
    assert entry_path(store).exists()


def test_a_directory_that_is_deleted_meanwhile_is_made_anew(tmp_path):
    store = new_store(tmp_path / "cache")
    put(store, KEY)
    (tmp_path / "cache").rename(tmp_path / "gone")
    assert store.get(KIND, KEY) is None
    assert store.faults.counts() == {"directory_gone": 1}
    with store.exclusive(KIND, KEY) as held:
        assert held
    assert store.faults.counts() == {"directory_gone": 2}
    put(store, KEY)
    found = store.get(KIND, KEY)
    assert found is not None
    assert found.sections == sections(KEY)
    assert store.faults.counts() == {"directory_gone": 2}
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_the_directory_deleted_while_its_lock_is_held_is_a_fault_and_no_error(tmp_path):
    store = new_store(tmp_path / "cache")
    with store.exclusive(KIND, KEY) as held:
        assert held
        (tmp_path / "cache").rename(tmp_path / "gone")
        put(store, KEY)
    assert store.get(KIND, KEY) is not None
    assert store.faults.counts() == {"directory_gone": 1}


def test_the_first_fault_of_a_kind_is_a_warning_and_all_are_counted(records):
    faults = Faults()
    faults.count(Fault.DAMAGED, "first")
    faults.count(Fault.DAMAGED, "second")
    faults.count(Fault.CLOCK, "third")
    assert [record.levelname for record in records] == ["WARNING", "DEBUG", "WARNING"]
    assert records[0].getMessage() == "store: damaged: first"
    assert faults.counts() == {"clock": 1, "damaged": 2}
    assert faults.details() == {"clock": "third", "damaged": "second"}
    assert faults[Fault.REJECTED] == 0


def test_threads_lose_no_count():
    faults = Faults()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: faults.count(Fault.DAMAGED, ""), range(2000)))
    assert faults.counts() == {"damaged": 2000}


def test_several_stores_may_count_together(tmp_path):
    faults = Faults()
    for _ in range(2):
        store = open_store(tmp_path, faults=faults)
        store.reject(KIND, KEY, "no")
    assert faults.counts() == {"rejected": 2}


def test_negative_sizes_and_times_are_the_callers_mistake(tmp_path):
    for option in ("max_bytes", "lock_timeout", "remote_timeout"):
        with pytest.raises(ValueError, match="negative"):
            open_store(tmp_path, **{option: -1})


def test_a_store_needs_no_torch_no_jax_and_no_fsspec():
    code = f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r}); import store; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "store" in loaded
    assert not loaded & {"torch", "jax", "jaxlib", "numpy", "fsspec", "asyncio", "pickle"}


def test_every_fault_is_in_the_documentation_and_no_other():
    text = (ROOT / "docs" / "caching.md").read_text()
    table = text.split("## Faults")[1].split("\n## ")[0]
    documented = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert documented == [str(fault) for fault in Fault]
