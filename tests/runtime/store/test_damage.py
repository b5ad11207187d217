"""Damaged entries: whichever bytes change or are missing, a miss that is counted, and a file in quarantine."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpu_dynamo_runtime.store import Fault, Store, open_store
from tpu_dynamo_runtime.store.entry import PREFIX, encode, read_header

from .stores import KEY, KIND, Clock, entry_path, examples, key, new_store, put, sections

DATA = b"".join(encode(KIND, KEY, sections(KEY), {"name": KEY}, 7))
HEADER = read_header(io.BytesIO(DATA))
HEADER_END = HEADER.sections[0].offset

POSITIONS = {
    "magic-first": 0,
    "magic-last": 7,
    "version-first": 8,
    "version-last": 11,
    "header-length-first": 12,
    "header-length-last": 15,
    "header-checksum-first": 16,
    "header-checksum-last": 47,
    "header-first": PREFIX.size,
    "header-middle": (PREFIX.size + HEADER_END) // 2,
    "header-last": HEADER_END - 1,
}
BORDERS = {"empty": 0, "magic": 8, "version": 12, "header-length": 16, "prefix": PREFIX.size, "header": HEADER_END}
for _section in HEADER.sections:
    POSITIONS[f"{_section.name}-first"] = _section.offset
    POSITIONS[f"{_section.name}-middle"] = _section.offset + _section.stored // 2
    POSITIONS[f"{_section.name}-last"] = _section.offset + _section.stored - 1
    BORDERS[_section.name] = _section.offset + _section.stored


@pytest.fixture
def store(tmp_path) -> Store:
    store = new_store(tmp_path)
    put(store, KEY)
    return store


def is_a_counted_miss(store: Store, data: bytes, fault: Fault) -> None:
    """Put `data` in the entry's place: it is a miss, counted and quarantined once, and the entry can be made again."""
    entry_path(store).write_bytes(data)
    before = store.faults[fault]
    assert store.get(KIND, KEY) is None
    assert store.faults[fault] == before + 1
    assert not entry_path(store).exists()
    assert store.directory is not None
    assert [file.path.name for file in store.directory.quarantined()] == [f"{KIND}.{KEY}"]
    assert store.get(KIND, KEY) is None
    assert sum(store.faults.counts().values()) == before + 1
    put(store, KEY)
    found = store.get(KIND, KEY)
    assert found is not None
    assert found.sections == sections(KEY)


@pytest.mark.parametrize("position", POSITIONS.values(), ids=POSITIONS)
def test_a_flipped_byte_is_a_counted_miss(store, position):
    data = bytearray(DATA)
    data[position] ^= 0x10
    is_a_counted_miss(store, bytes(data), Fault.FOREIGN_VERSION if 8 <= position < 12 else Fault.DAMAGED)


@pytest.mark.parametrize("border", BORDERS.values(), ids=BORDERS)
def test_an_entry_cut_at_a_border_is_a_counted_miss(store, border):
    for length in {max(border - 1, 0), border, min(border + 1, len(DATA) - 1)} - {len(DATA)}:
        is_a_counted_miss(store, DATA[:length], Fault.DAMAGED)


def test_an_entry_with_bytes_behind_is_a_counted_miss(store):
    is_a_counted_miss(store, DATA + b"\0", Fault.DAMAGED)


def test_a_file_of_nothing_but_zeros_is_a_counted_miss(store):
    is_a_counted_miss(store, bytes(len(DATA)), Fault.DAMAGED)


def test_another_entrys_file_is_a_counted_miss(store):
    put(store, key(1))
    data = entry_path(store, key(1)).read_bytes()
    is_a_counted_miss(store, data, Fault.MISPLACED)


@examples
@given(position=st.integers(0, len(DATA) - 1), change=st.integers(1, 255))
def test_no_changed_byte_gives_wrong_bytes(position, change):
    data = bytearray(DATA)
    data[position] ^= change
    never_wrong(bytes(data))


@examples
@given(length=st.integers(0, len(DATA) - 1), tail=st.binary(max_size=50))
def test_no_cut_and_no_tail_gives_wrong_bytes(length, tail):
    if DATA[:length] + tail != DATA:
        never_wrong(DATA[:length] + tail)


def never_wrong(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder))
        put(store, KEY)
        entry_path(store).write_bytes(data)
        assert store.get(KIND, KEY) is None
        assert sum(store.faults.counts().values()) == 1


@pytest.mark.parametrize(
    "plant",
    [
        pytest.param(lambda path: (path.with_name("x").write_bytes(DATA), path.symlink_to("x")), id="link"),
        pytest.param(lambda path: os.mkfifo(path, 0o600), id="named-pipe"),
        pytest.param(lambda path: (path.write_bytes(DATA), path.chmod(0o666)), id="world-writable"),
    ],
)
def test_a_file_that_others_could_have_written_is_a_counted_miss(store, plant):
    entry_path(store).unlink()
    plant(entry_path(store))
    assert store.get(KIND, KEY) is None
    assert store.faults.counts() == {"untrusted": 1}
    assert not os.path.lexists(entry_path(store))


def test_a_folder_in_an_entrys_place_is_a_counted_miss(store):
    entry_path(store).unlink()
    entry_path(store).mkdir()
    assert store.get(KIND, KEY) is None
    assert store.faults.counts() == {"untrusted": 1}
    put(store, KEY)


def test_a_file_in_a_folders_place_is_counted(store):
    shard = entry_path(store).parent
    entry_path(store).unlink()
    shard.rmdir()
    shard.write_bytes(b"")
    assert store.get(KIND, KEY) is None
    assert not store.put(KIND, KEY, {}, {})
    assert store.faults.counts() == {"unreadable": 1, "unwritable": 1}


def test_a_rejected_entry_is_a_counted_miss(store):
    store.reject(KIND, KEY, "PJRT says no")
    assert store.get(KIND, KEY) is None
    assert store.faults.counts() == {"rejected": 1}
    assert "PJRT says no" in store.faults.details()["rejected"]
    store.reject(KIND, KEY, "again, and there is none")
    assert store.faults.counts() == {"rejected": 2}


def test_a_sound_entry_that_took_the_place_of_a_bad_one_is_not_quarantined(store, monkeypatch):
    entry_path(store).write_bytes(b"bad")
    quarantine = store._quarantine

    def late(*args):
        put(store, KEY)
        quarantine(*args)

    monkeypatch.setattr(store, "_quarantine", late)
    assert store.get(KIND, KEY) is None
    assert store.faults.counts() == {"damaged": 1}
    found = store.get(KIND, KEY)
    assert found is not None
    assert found.sections == sections(KEY)


def test_quarantine_is_bounded_in_files_and_bytes(tmp_path):
    clock = Clock()
    store = new_store(tmp_path, max_bytes=200_000, clock=clock)
    assert store.directory is not None
    for i in range(30):
        clock.now += 1
        put(store, key(i), 10)
        store.reject(KIND, key(i), "no")
    newest = {f"{KIND}.{key(i)}" for i in range(14, 30)}
    assert {file.path.name for file in store.directory.quarantined()} == newest
    for i in range(30):
        put(store, key(i), 8000)
        store.reject(KIND, key(i), "no")
    assert sum(file.size for file in store.directory.quarantined()) <= 20_000
    assert len(store.directory.quarantined()) == 2
    assert store.faults.counts() == {"rejected": 60}
