"""Maintenance: what is listed, checked, removed, and carried from one store to another."""

from __future__ import annotations

import os

import pytest

from tpu_dynamo_runtime.store import (
    Store,
    clear,
    discard,
    entries,
    export_entry,
    import_entry,
    prune,
    remove,
    to_prune,
    total_bytes,
    verify,
    verify_all,
)

from .stores import KEY, KIND, Clock, entry_path, kept, key, new_store, put, sections


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path, clock) -> Store:
    store = new_store(tmp_path / "store", clock=clock)
    put(store, KEY)
    assert store.put("program", key(1), {"stablehlo": b"module"}, {"graph": "g"})
    return store


def damage(store: Store, name: str = KEY) -> None:
    """Flip the last byte of an entry, which is in its last section."""
    data = bytearray(entry_path(store, name).read_bytes())
    data[-1] ^= 1
    entry_path(store, name).write_bytes(data)


def test_a_listing_has_names_sizes_last_uses_and_headers(store):
    listed = list(entries(store))
    assert [(item.kind, item.key, item.problem) for item in listed] == [(KIND, KEY, None), ("program", key(1), None)]
    assert [item.key for item in entries(store, "program")] == [key(1)]
    executable, program = listed
    assert executable.size == entry_path(store).stat().st_size
    assert executable.last_use == 1.7e9
    assert executable.header is not None
    assert executable.header.size == sum(map(len, sections(KEY).values()))
    assert program.header is not None
    assert program.header.metadata == {"graph": "g"}
    assert total_bytes(store) == executable.size + program.size


def test_a_listing_reads_no_section_and_notes_no_use(store, clock):
    damage(store)
    os.utime(entry_path(store), (clock.now, clock.now))
    clock.now += 1e6
    assert [item.problem for item in entries(store)] == [None, None]
    assert [item.last_use for item in entries(store)] == [1.7e9, 1.7e9]
    assert not store.faults.counts()


def test_a_listing_shows_what_cannot_be_read(store):
    entry_path(store).write_bytes(b"bad")
    item = next(iter(entries(store)))
    assert item.header is None
    assert item.problem == "3 bytes are too few"
    assert entry_path(store).exists()
    assert not store.faults.counts()


def test_checking_finds_damage_and_repairs_only_when_asked(store):
    assert verify(store, KIND, KEY) is None
    assert verify(store, KIND, key(7)) is None
    assert list(verify_all(store)) == []
    damage(store)
    problem = "the checksum of its section 'outputs' is wrong"
    assert verify(store, KIND, KEY) == problem
    assert list(verify_all(store)) == [(KIND, KEY, problem)]
    assert kept(store) == {KEY, key(1)}
    assert not store.faults.counts()
    assert list(verify_all(store, repair=True)) == [(KIND, KEY, problem)]
    assert kept(store) == {key(1)}
    assert store.faults.counts() == {"damaged": 1}
    assert list(verify_all(store)) == []


def test_checking_finds_an_entry_under_anothers_name(store):
    entry_path(store).write_bytes((entry_path(store).parents[2] / "program" / key(1)[:2] / key(1)).read_bytes())
    assert verify(store, KIND, KEY) == f"it is the entry program {key(1)}"


def test_removing(store):
    assert remove(store, KIND, KEY)
    assert not remove(store, KIND, KEY)
    assert kept(store) == {key(1)}
    assert not store.faults.counts()


def test_clearing_removes_entries_and_quarantine_and_leaves_what_is_at_work(store):
    put(store, key(2))
    store.reject(KIND, key(2), "no")
    unfinished = entry_path(store).with_name(".x.tmp")
    unfinished.write_bytes(b"half")
    with store.exclusive(KIND, KEY):
        assert clear(store) == 2
        assert store.directory is not None
        assert len(list(store.directory.lock_files())) == 1
    assert kept(store) == {".x.tmp"}
    assert store.directory.quarantined() == []
    assert total_bytes(store) == 0


def test_an_exported_entry_is_the_same_file_and_can_be_imported(store, tmp_path):
    assert export_entry(store, KIND, KEY, tmp_path / "entry")
    assert (tmp_path / "entry").read_bytes() == entry_path(store).read_bytes()
    other = new_store(tmp_path / "other")
    header = import_entry(other, tmp_path / "entry")
    assert header is not None
    assert (header.kind, header.key) == (KIND, KEY)
    found = other.get(KIND, KEY)
    assert found is not None
    assert found.sections == sections(KEY)


def test_what_is_unfit_is_neither_exported_nor_imported(store, tmp_path):
    damage(store)
    data = entry_path(store).read_bytes()
    assert not export_entry(store, KIND, KEY, tmp_path / "entry")
    assert not (tmp_path / "entry").exists()
    assert not export_entry(store, KIND, key(9), tmp_path / "entry")
    (tmp_path / "entry").write_bytes(data)
    assert import_entry(store, tmp_path / "entry") is None
    assert import_entry(store, tmp_path / "none") is None
    assert not export_entry(store, "program", key(1), tmp_path / "none" / "entry")
    assert store.faults.counts() == {"damaged": 2, "unreadable": 1, "unwritable": 1}
    assert kept(store) == {key(1)}


def test_pruning_an_entry_that_just_went_is_no_fault(store, monkeypatch):
    assert store.eviction is not None
    files = store.eviction.settle()
    assert clear(store) == 2
    assert store.eviction.evict(files, 0) == 2
    assert prune(store, max_bytes=0) == 0
    assert not store.faults.counts()


def test_what_pruning_would_remove_is_the_longest_unused(store, clock):
    clock.now += 100
    put(store, key(2))
    listed = list(entries(store))
    assert to_prune(listed, clock.now) == []
    assert {item.key for item in to_prune(listed, clock.now, max_age=50)} == {KEY, key(1)}
    assert [item.key for item in to_prune(listed, clock.now, max_bytes=0)][-1] == key(2)
    newest = next(item for item in listed if item.key == key(2))
    assert {item.key for item in to_prune(listed, clock.now, max_bytes=newest.size)} == {KEY, key(1)}
    assert to_prune(listed, clock.now, max_bytes=total_bytes(store)) == []


def test_an_entry_that_was_used_since_it_was_listed_is_spared(store, clock):
    listed = list(entries(store))
    clock.now += 100
    assert store.get(KIND, KEY) is not None
    assert [discard(store, item) for item in listed] == [False, True]
    assert kept(store) == {KEY}
