"""Eviction: the least recently used go first, whatever clocks say, and nobody who reads is disturbed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tpu_dynamo_runtime.store import Store, prune
from tpu_dynamo_runtime.store.entry import read_entry

from .stores import KEY, KIND, Clock, entry_path, kept, key, new_store, put, sections

DAY = 24 * 3600.0
# An entry of 1000 bytes takes about 1700 with its header.
ROOM_FOR_FIVE = 10_000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path, clock) -> Store:
    return new_store(tmp_path, max_bytes=ROOM_FOR_FIVE, clock=clock)


def numbers(store: Store, count: int = 20) -> list[int]:
    """Return the numbers of the entries that are there."""
    return [number for number in range(count) if key(number) in kept(store)]


def test_the_first_written_goes_first_when_nothing_is_used(store, clock):
    for number in range(8):
        put(store, key(number))
        clock.now += DAY
    assert numbers(store) == [3, 4, 5, 6, 7]
    assert not store.faults.counts()


def test_what_is_used_stays(store, clock):
    for number in range(8):
        put(store, key(number))
        clock.now += DAY
        assert store.get(KIND, key(0)) is not None
        clock.now += DAY
    assert numbers(store) == [0, 4, 5, 6, 7]


def test_what_was_used_by_another_process_after_the_listing_is_spared(store, clock):
    for number in range(4):
        put(store, key(number))
        clock.now += DAY
    assert store.eviction is not None
    files = store.eviction.settle()
    assert store.get(KIND, key(0)) is not None
    assert store.eviction.evict(files, 4000) == 2
    assert numbers(store) == [0, 3]


def test_a_use_is_noted_once_in_a_while(store, clock):
    put(store, KEY)
    noted = entry_path(store).stat().st_mtime
    clock.now += 30
    assert store.get(KIND, KEY) is not None
    assert entry_path(store).stat().st_mtime == noted
    clock.now += 31
    assert store.get(KIND, KEY) is not None
    assert entry_path(store).stat().st_mtime == clock.now


def test_a_large_entry_drives_out_all_others_but_not_itself(store, clock):
    for number in range(3):
        put(store, key(number))
        clock.now += DAY
    put(store, key(9), ROOM_FOR_FIVE - 800)
    assert numbers(store) == [9]


def test_what_another_process_left_is_brought_below_the_cap_by_the_first_entry(tmp_path, clock):
    roomy = new_store(tmp_path, clock=clock)
    for number in range(10):
        put(roomy, key(number), 20_000)
        clock.now += DAY
    assert len(numbers(roomy)) == 10
    put(new_store(tmp_path, max_bytes=100_000, clock=clock), key(10), 10)
    assert numbers(roomy) == [6, 7, 8, 9, 10]


def test_many_small_entries_are_looked_at_too(tmp_path, clock):
    store = new_store(tmp_path, max_bytes=4 << 20, clock=clock)
    put(store, key(0), 10)
    put(new_store(tmp_path, clock=clock), key(1), 5 << 20)
    clock.now += DAY
    for number in range(2, 70):
        put(store, key(number), 10)
    assert key(1) not in kept(store)


@pytest.mark.parametrize("hit", [False, True], ids=["unused", "used"])
def test_a_last_use_in_the_future_does_not_keep_an_entry_for_ever(store, clock, hit):
    put(store, key(0))
    os.utime(entry_path(store, key(0)), (clock.now + 1000 * DAY,) * 2)
    if hit:
        assert store.get(KIND, key(0)) is not None
        assert entry_path(store, key(0)).stat().st_mtime == clock.now
    for number in range(1, 8):
        clock.now += DAY
        put(store, key(number))
    assert numbers(store) == [3, 4, 5, 6, 7]
    assert store.faults.counts() == ({} if hit else {"clock": 1})


def test_clocks_that_differ_by_seconds_are_no_fault(store, clock):
    put(store, KEY)
    clock.now -= 30
    assert prune(store) == 0
    assert not store.faults.counts()


def test_a_clock_that_jumps_back_by_years_loses_nothing_it_should_keep(store, clock):
    for number in range(3):
        put(store, key(number))
    clock.now -= 3000 * DAY
    put(store, key(3))
    for number in range(4):
        assert store.get(KIND, key(number)) is not None
    assert store.faults.counts() == {"clock": 3}


def test_an_entry_that_is_evicted_while_it_is_read_is_read(store, clock):
    put(store, KEY)
    with entry_path(store).open("rb") as file:
        assert prune(store, max_bytes=0) == 1
        assert read_entry(file, KIND, KEY).sections == sections(KEY)
    assert store.get(KIND, KEY) is None
    assert not store.faults.counts()


def test_unfinished_files_go_when_their_writer_must_be_dead(store, clock):
    put(store, KEY)
    old, young, ahead = (entry_path(store).with_name(f".{name}.tmp") for name in ("old", "young", "ahead"))
    for path, age in ((old, 2 * 3600), (young, 60), (ahead, -DAY)):
        path.write_bytes(b"half")
        os.utime(path, (clock.now - age,) * 2)
    put(store, key(1))
    assert not old.exists()
    assert young.exists()
    assert ahead.exists()
    clock.now += 2 * 3600
    put(store, key(2))
    assert not young.exists()
    assert not ahead.exists()
    assert store.faults.counts() == {"clock": 1}


def test_files_that_the_store_did_not_make_stay(store, clock):
    put(store, KEY)
    strange = [entry_path(store).with_name("notes.txt"), entry_path(store).with_name(key(0)), Path("entries/readme")]
    for path in strange:
        (tmp := entry_path(store).parents[3] / path).write_bytes(bytes(2 * ROOM_FOR_FIVE))
        os.utime(tmp, (0, 0))
    assert prune(store, max_bytes=0) == 1
    assert all((entry_path(store).parents[3] / path).exists() for path in strange)


def test_pruning_by_age_and_by_size(store, clock):
    start = clock.now
    for number in range(5):
        put(store, key(number))
        clock.now += DAY
    assert prune(store) == 0
    assert prune(store, max_age=clock.now - start - 1.5 * DAY) == 2
    assert numbers(store) == [2, 3, 4]
    assert prune(store, max_bytes=4000, max_age=100 * DAY) == 1
    assert numbers(store) == [3, 4]
